"""The lean transport over real sockets: connections are shared, bounded, looked at, secured and never leaked."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from thresher.llm.providers import transport as module
from thresher.llm.providers.transport import KeepAliveTransport

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TIMEOUTS = {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 0.01}


class Server:
    """Answers every request with one reply; ``closing``: and ends the connection, without saying so."""

    def __init__(self, reply: bytes, *, closing: bool = False, context: ssl.SSLContext | None = None) -> None:
        self.reply, self.closing, self.context = reply, closing, context
        self.connections = 0
        self.stopped = False
        self.closed = threading.Semaphore(0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        talks = []
        while True:
            connection, _ = self.listener.accept()
            self.connections += 1
            if self.stopped:
                connection.close()
                break
            talks.append(threading.Thread(target=self.talk, args=(connection,)))
            talks[-1].start()
        for talk in talks:
            talk.join()

    def talk(self, connection: socket.socket) -> None:
        try:
            with self.context.wrap_socket(connection, server_side=True) if self.context else connection as stream:
                while b"\r\n\r\n" in (stream.recv(65_536)):
                    stream.sendall(self.reply)
                    if self.closing:
                        break
        except OSError:
            connection.close()
        self.closed.release()

    def stop(self) -> None:
        self.stopped = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.thread.join()
        self.listener.close()


@contextmanager
def serving(reply: bytes = OK, *, closing: bool = False, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(reply, closing=closing, context=context)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def client_of(transport: KeepAliveTransport) -> Iterator[httpx2.Client]:
    with httpx2.Client(transport=transport) as client:
        yield client


def get(client: httpx2.Client, server: Server, scheme: str = "http") -> str:
    request = httpx2.Request("GET", f"{scheme}://localhost:{server.port}/", extensions={"timeout": TIMEOUTS})
    return client.send(request).text


def test_a_connection_is_used_again() -> None:
    with serving() as server, client_of(KeepAliveTransport(2)) as client:
        assert [get(client, server) for _ in range(5)] == ["ok"] * 5
        assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRUSTED_IDLE", 0.0)
    with serving(closing=True) as server, client_of(KeepAliveTransport(2)) as client:
        for _ in range(3):
            assert get(client, server) == "ok"
            assert server.closed.acquire(timeout=5)
        assert server.connections == 3


def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_IDLE", 0.0)
    monkeypatch.setattr(module, "_TRUSTED_IDLE", 0.0)
    with serving() as server, client_of(KeepAliveTransport(2)) as client:
        assert [get(client, server), get(client, server)] == ["ok", "ok"]
        assert server.connections == 2


def test_a_connection_that_the_server_wants_to_end_is_not_used_again() -> None:
    reply = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    with serving(reply) as server, client_of(KeepAliveTransport(2)) as client:
        assert [get(client, server), get(client, server)] == ["ok", "ok"]
        assert server.connections == 2


def test_no_more_requests_than_connections_are_under_way_and_each_gives_its_place_back() -> None:
    with serving() as server, client_of(KeepAliveTransport(1)) as client:
        request = httpx2.Request("GET", f"http://localhost:{server.port}/", extensions={"timeout": TIMEOUTS})
        reply = client.send(request, stream=True)
        with pytest.raises(httpx2.PoolTimeout):
            get(client, server)
        reply.close()
        assert get(client, server) == "ok"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n14\r\nok", httpx2.RemoteProtocolError),
        (b"who is there?\r\n\r\n", httpx2.RemoteProtocolError),
        (b"", httpx2.RemoteProtocolError),
    ],
)
def test_a_reply_that_is_cut_or_no_reply_is_an_error_and_gives_its_place_back(
    reply: bytes, error: type[Exception]
) -> None:
    with serving(reply, closing=True) as server, client_of(KeepAliveTransport(1)) as client:
        for _ in range(2):
            with pytest.raises(error):
                get(client, server)


def test_nobody_listening_is_a_connect_error_and_gives_its_place_back() -> None:
    with serving() as server:
        pass
    with client_of(KeepAliveTransport(1)) as client:
        for _ in range(2):
            with pytest.raises(httpx2.ConnectError):
                get(client, server)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost, signed by itself, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


def test_https_asks_servers_whose_certificate_is_trusted_and_keeps_the_connection(certificate: Path) -> None:
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(certificate)
    trusting = KeepAliveTransport(1, ssl.create_default_context(cafile=certificate))
    with serving(context=secure) as server, client_of(trusting) as client:
        assert [get(client, server, "https"), get(client, server, "https")] == ["ok", "ok"]
        assert server.connections == 1


def test_https_refuses_a_certificate_that_nobody_vouches_for(certificate: Path) -> None:
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(certificate)
    with serving(context=secure) as server, client_of(KeepAliveTransport(1)) as client:
        for _ in range(2):
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                get(client, server, "https")
