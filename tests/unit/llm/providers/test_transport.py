"""The transport over real sockets: connections are kept, bounded, secured, interruptible; replies are bounded."""

from __future__ import annotations

import gzip
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from thresher.core.errors import PermanentLLMError, TransientLLMError
from thresher.llm.providers import transport as module
from thresher.llm.providers.preparation import Template
from thresher.llm.providers.transport import CurlTransport, Response

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
KEY = "Bearer sk-secret"


class Server:
    """Answers every request with one reply; ``closing``: and ends the connection, without having said so."""

    def __init__(self, reply: bytes, *, closing: bool = False, context: ssl.SSLContext | None = None) -> None:
        self.reply, self.closing, self.context = reply, closing, context
        self.drops: str | None = None  # from now on: "ends" or "resets" the connection instead of answering
        self.connections = 0
        self.requests: list[bytes] = []
        self.accepted: list[socket.socket] = []
        self.closed = threading.Semaphore(0)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def template(self, scheme: str = "http", method: str = "GET") -> Template:
        address = f"{scheme}://localhost:{self.port}"
        return Template(method, f"{address}/v1", (f"authorization: {KEY}",), address)

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                self.accepted.append(connection)
                threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        stream: socket.socket = connection
        if self.context is not None:  # the handshake comes later: where it fails, there is something to close
            stream = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with suppress(OSError), stream:
            if isinstance(stream, ssl.SSLSocket):
                stream.do_handshake()
            while request := stream.recv(65_536):
                self.requests.append(request)
                if self.drops is not None:
                    drop(stream, self.drops)
                    break
                if not self.reply:  # hangs until the client goes away
                    continue
                stream.sendall(self.reply)
                if self.closing:
                    break
        self.closed.release()

    def hang_up(self) -> None:
        """Says on every connection that nothing more comes; whether the other side closes it is for that side."""
        for connection in self.accepted:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


def drop(stream: socket.socket, how: str) -> None:
    """Leaves a request without an answer."""
    if how == "resets":
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def serving(reply: bytes = OK, *, closing: bool = False, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(reply, closing=closing, context=context)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def transport() -> Iterator[CurlTransport]:
    transport = CurlTransport(2)
    yield transport
    transport.close()


def in_thread(transport: CurlTransport, template: Template, body: bytes = b"", timeout: float = 5.0) -> Response:
    """As worker threads do it: the main thread waits in another way."""
    done: list[Response | Exception] = []

    def send() -> None:
        try:
            done.append(transport.send(template, body, timeout))
        except Exception as error:  # noqa: BLE001 # handed on below
            done.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join(30)
    if isinstance(done[0], Exception):
        raise done[0]
    return done[0]


Send = Callable[[CurlTransport, Template, bytes, float], Response]
both_ways = pytest.mark.parametrize(
    "send", [lambda transport, *given: transport.send(*given), in_thread], ids=["main thread", "worker thread"]
)


@both_ways
def test_a_connection_is_used_again(transport: CurlTransport, send: Send) -> None:
    with serving() as server:
        replies = [send(transport, server.template(), b"", 5.0) for _ in range(5)]
        assert [(reply.status, reply.body) for reply in replies] == [(200, b"ok")] * 5
        assert server.connections == 1


@both_ways
def test_a_connection_that_the_server_has_closed_meanwhile_costs_no_request(
    transport: CurlTransport, send: Send
) -> None:
    with serving(closing=True) as server:
        template = server.template(method="POST")
        for _ in range(4):
            assert send(transport, template, b"{}", 5.0).body == b"ok"
            assert server.closed.acquire(timeout=5)
        assert len(server.requests) == 4


@pytest.mark.parametrize("how", ["ends", "resets"])
@both_ways
def test_a_request_without_an_answer_is_not_sent_again_behind_the_back_of_the_engine(
    transport: CurlTransport, send: Send, how: str
) -> None:
    """It may have been paid for: whether it is sent again, and counted, is not for libcurl to decide."""
    with serving() as server:
        template = server.template(method="POST")
        assert send(transport, template, b"first", 5.0).body == b"ok"
        server.drops = how
        with pytest.raises(TransientLLMError, match="closed the connection without an answer"):
            send(transport, template, b"second", 5.0)
        server.drops = None
        assert send(transport, template, b"third", 5.0).body == b"ok"
        bodies = [request.rpartition(b"\r\n")[2] for request in server.requests]
    assert bodies == [b"first", b"second", b"third"]


def test_two_templates_take_turns_on_one_connection(transport: CurlTransport) -> None:
    with serving() as server:
        get, post = server.template(), server.template(method="POST")
        for template in (get, post, get, post):
            assert transport.send(template, b"body" if template is post else b"", 5.0).body == b"ok"
        assert [request.split()[0] for request in server.requests] == [b"GET", b"POST", b"GET", b"POST"]
        assert [request.endswith(b"body") for request in server.requests] == [False, True, False, True]
        assert server.connections == 1


def test_a_further_thread_waits_for_a_connection_and_says_so_when_it_waited_in_vain() -> None:
    transport = CurlTransport(1)

    def hold() -> None:
        with suppress(TransientLLMError):
            transport.send(server.template(), b"", 60.0)

    with serving(b"") as server:
        holder = threading.Thread(target=hold)
        holder.start()
        while not server.requests:
            time.sleep(0.01)
        with pytest.raises(TransientLLMError, match=r"became free within 0\.2 s"):
            transport.send(server.template(), b"", 0.2)
        server.hang_up()
        holder.join(30)
        assert not holder.is_alive()
    transport.close()


@both_ways
@pytest.mark.parametrize("repeated", range(2))
@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n14\r\nok",
        b"who is there?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
    ],
)
def test_a_reply_that_is_cut_or_none_is_one_sentence(
    transport: CurlTransport, send: Send, reply: bytes, repeated: int
) -> None:
    with serving(reply, closing=True) as server:
        for _ in range(repeated + 1):
            with pytest.raises(TransientLLMError, match=r"^http://localhost:\d+ cannot be reached: .+\.$") as caught:
                send(transport, server.template(), b"", 5.0)
        assert "secret" not in str(caught.value)


def test_compressed_replies_are_read(transport: CurlTransport) -> None:
    packed = gzip.compress(b"x" * 1000)
    reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(packed), packed)
    with serving(reply) as server:
        assert transport.send(server.template(), b"", 5.0).body == b"x" * 1000


@both_ways
def test_a_small_reply_that_becomes_a_large_one_is_refused(
    transport: CurlTransport,
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_REPLY_BYTES", 100_000)
    packed = gzip.compress(b"\0" * 1_000_000)
    reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(packed), packed)
    with serving(reply) as server, pytest.raises(PermanentLLMError, match="answered more than 100000 bytes"):
        send(transport, server.template(), b"", 5.0)


def test_the_headers_are_those_of_the_last_reply_by_names_in_any_case_the_first_of_each(
    transport: CurlTransport,
) -> None:
    reply = (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nX-Odd:  caf\xe9 \r\nx-twice: 1\r\nX-Twice: 2\r\ncontent-length: 2\r\n\r\nok"
    )
    with serving(reply) as server:
        headers = transport.send(server.template(), b"", 5.0).headers
    assert headers == {b"x-odd": b"caf\xe9", b"x-twice": b"1", b"content-length": b"2"}


def test_a_redirect_is_not_followed(transport: CurlTransport) -> None:
    with serving(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n") as server:
        reply = transport.send(server.template(), b"", 5.0)
    assert (reply.status, reply.header(b"location")) == (302, "http://127.0.0.1:1/")


def test_closing_waits_for_nobody_and_leaves_nothing_open() -> None:
    transport = CurlTransport(2)
    with serving(b"") as server:
        failed: list[Exception] = []

        def send() -> None:
            try:
                transport.send(server.template(), b"", 60.0)
            except TransientLLMError as error:
                failed.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        transport.close()
        assert thread.is_alive()
        server.hang_up()
        thread.join(30)
        assert len(failed) == 1
        assert server.closed.acquire(timeout=5)


def test_an_interrupt_ends_a_request_of_the_main_thread_at_once() -> None:
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this process was started with
from thresher.llm.providers.preparation import Template
from thresher.llm.providers.transport import CurlTransport
print("asking", flush=True)
try:
    CurlTransport(1).send(Template("GET", sys.argv[1], [], "there"), b"", 60.0)
except KeyboardInterrupt:
    print("interrupted")
"""
    with serving(b"") as server:
        command = [sys.executable, "-c", code, server.template().url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while not server.requests:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=20)[0].split() == ["asking", "interrupted"]


class TestProxies:
    @pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
    def test_a_proxy_of_the_environment_is_used(self, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        with serving() as proxy, serving() as server:
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
            transport = CurlTransport(1)
            transport.send(server.template(), b"", 5.0)
            transport.close()
            assert proxy.requests[0].startswith(f"GET {server.template().url} HTTP/1.1".encode())
            assert server.requests == []

    def test_what_needs_no_proxy_is_asked_directly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving() as proxy, serving() as server:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", "localhost")
            transport = CurlTransport(1)
            transport.send(server.template(), b"", 5.0)
            transport.close()
            assert (len(proxy.requests), len(server.requests)) == (0, 1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost, signed by itself, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
    ]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


class TestSecurity:
    @pytest.fixture
    def server(self, certificate: Path) -> Iterator[Server]:
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(certificate)
        with serving(context=secure) as server:
            yield server

    @both_ways
    def test_a_server_that_is_vouched_for_is_asked(
        self,
        server: Server,
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
        send: Send,
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("cert.pem")))
        transport = CurlTransport(1)
        template = server.template("https")
        assert [send(transport, template, b"", 5.0).body for _ in range(2)] == [b"ok"] * 2
        assert server.connections == 1
        transport.close()

    @both_ways
    def test_a_server_that_nobody_vouches_for_is_not_asked(
        self,
        server: Server,
        transport: CurlTransport,
        send: Send,
    ) -> None:
        with pytest.raises(TransientLLMError, match=r"certificate.*SSL_CERT_FILE"):
            send(transport, server.template("https"), b"", 5.0)
        assert server.requests == []

    def test_a_certificate_of_another_name_is_refused(
        self, server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("cert.pem")))
        other = Template("GET", f"https://127.0.0.1:{server.port}/", [], "there")
        transport = CurlTransport(1)
        with pytest.raises(TransientLLMError, match="cannot be reached"):
            transport.send(other, b"", 5.0)
        transport.close()
        assert server.requests == []
