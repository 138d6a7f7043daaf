"""A real web server on the loopback: gives documents, takes what is sent to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOOPBACK = {"ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8"}


@dataclass
class Request:
    """What somebody asked, or sent."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebServer:
    """``answer`` says for each request which status, headers and body it gets; ``requests`` are those so far."""

    address: str
    answer: Callable[[Request], tuple[int, dict[str, str], bytes]]
    requests: list[Request] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def until(self, count: int, timeout: float = 30) -> list[Request]:
        """The requests as soon as there are so many."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, timeout), self.requests
            return list(self.requests)


@contextmanager
def web_server(answer: Callable[[Request], tuple[int, dict[str, str], bytes]]) -> Iterator[WebServer]:
    """A server on a free port until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            with server.arrived:
                server.requests.append(request)
                server.arrived.notify_all()
            status, headers, content = server.answer(request)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 # as http.server has it

        def log_message(self, *_: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = WebServer(f"http://127.0.0.1:{httpd.server_port}", answer)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
