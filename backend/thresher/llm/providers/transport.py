"""HTTP over libcurl: a prepared request is sent again and again with another body, over connections that are kept.

libcurl takes an eighth of the CPU of the openai SDK's own transport (docs/decisions/0006-libcurl.md), and does what
HTTP asks of a client: proxies, TLS, compression, connections that the server has closed meanwhile.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import pycurl

from thresher.core.certificates import system_certificates
from thresher.core.errors import PermanentLLMError, ThresherError, TransientLLMError
from thresher.llm.providers.preparation import Template

CONNECT_TIMEOUT = 10.0  # seconds
MAX_REPLY_BYTES = 32 * 1024 * 1024
MAX_HEADER_LINES = 512
_BUFFER = 16 * 1024  # bytes, of each connection and direction; libcurl's own are larger, and there may be many
_LONGEST_WAIT = 0.2  # seconds in which the main thread looks after its signals
_NONE = -1  # no socket
_LATE_TICKET = b"\x17"  # how TLS data begins between two replies, when a session ticket comes after the first one
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_ESTABLISHED = b"\x01"  # its first field, the state: neither side has begun to close
_TOO_MUCH = -1  # less than was handed over: libcurl ends the transfer

_CERTIFICATE_ERRORS = frozenset({pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE})

_NOTHING_CAME = frozenset({pycurl.E_GOT_NOTHING, pycurl.E_SEND_FAIL_REWIND})  # the latter: see _hand_over


@dataclass(frozen=True, slots=True)
class Response:
    """A reply, decompressed. ``headers`` are those of the last hop: by lower-case name the first of each."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """The first header of this lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def is_html(self) -> bool:
        """Whether this is a page for people."""
        return "html" in (self.header(b"content-type") or "") or self.body[:64].lstrip().startswith(b"<")


class CurlTransport:
    """Sends requests from any number of threads, over ``connections`` connections at most: further threads wait.

    Redirects are not followed. Proxies are those of the environment and the system, as Python's ``getproxies``
    finds them; servers must have a certificate that the system (or ``SSL_CERT_FILE``, ``SSL_CERT_DIR``) vouches for.
    """

    def __init__(self, connections: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()  # a semaphore that costs a tenth of ``threading``'s
        for _ in range(connections):
            self._free.put(None)
        self._idle: deque[_Connection] = deque()  # the one used last is used first, so that few stay open
        self._is_closed = False

    def send(self, template: Template, body: bytes, timeout: float) -> Response:
        """Sends one request; ``timeout`` in seconds bounds all of it, also servers that send a byte now and then.

        Raises:
            TransientLLMError: no reply, not in time, or not to its end.
            PermanentLLMError: the reply is larger than ``MAX_REPLY_BYTES``.
        """
        try:
            self._free.get(timeout=timeout)
        except Empty as error:
            sentence = f"No connection to {template.address} became free within {timeout:g} s."
            raise TransientLLMError(sentence) from error
        try:
            return self._send(template, body, timeout)
        finally:
            self._free.put(None)

    def send_apart(self, template: Template, body: bytes, timeout: float) -> Response:
        """Sends one request over a connection of its own, also while all others are busy; else as ``send``."""
        connection = _Connection()
        try:
            return connection.send(template, body, timeout)
        finally:
            connection.close()

    def _send(self, template: Template, body: bytes, timeout: float) -> Response:
        connection = self._take()
        try:
            response = connection.send(template, body, timeout)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._is_closed:
            self.close()
        return response

    def _take(self) -> _Connection:
        with contextlib.suppress(IndexError):
            while (connection := self._idle.pop()).has_ended():
                connection.close()
            return connection
        return _Connection()

    def close(self) -> None:
        """Closes all connections; those in use end with their request."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()


class _Connection:
    """One handle of libcurl and what it received; used by one thread at a time."""

    __slots__ = ("_chunks", "_curl", "_lines", "_multi", "_received", "_socket", "_template", "_timeout")

    def __init__(self) -> None:
        self._template: Template | None = None
        self._timeout = 0.0
        self._lines: list[bytes] = []
        self._chunks: list[bytes] = []
        self._received = 0
        self._multi: pycurl.CurlMulti | None = None
        self._socket = _NONE  # what the last request went over; libcurl closes it in a request of its own only
        curl = self._curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.TCP_NODELAY, 1)
        curl.setopt(pycurl.BUFFERSIZE, _BUFFER)
        curl.setopt(pycurl.UPLOAD_BUFFERSIZE, _BUFFER)
        curl.setopt(pycurl.ACCEPT_ENCODING, "")  # whatever libcurl can decode
        curl.setopt(pycurl.HEADERFUNCTION, self._receive_line)
        curl.setopt(pycurl.WRITEFUNCTION, self._receive)
        _trust_as_the_system_does(curl)

    def send(self, template: Template, body: bytes, timeout: float) -> Response:
        if template is not self._template:
            self._prepare(template)
        if timeout != self._timeout:
            self._curl.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout * 1000)))
            self._curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round(min(CONNECT_TIMEOUT, timeout) * 1000)))
            self._timeout = timeout
        if template.method == "POST":
            self._hand_over(body)
        self._lines, self._chunks, self._received = [], [], 0
        try:
            self._perform()
        except pycurl.error as error:
            explained = self._explained(error, template.address, timeout).in_own_words()
            if isinstance(explained, TransientLLMError) and self._curl.getinfo(pycurl.PRETRANSFER_TIME) > 0:
                explained = explained.sent_unanswered()
            raise explained from error
        status: int = self._curl.getinfo(pycurl.RESPONSE_CODE)
        return Response(status, _headers(self._lines), b"".join(self._chunks))

    def has_ended(self) -> bool:
        """Whether the server has closed the connection since the last request, without having said that it would."""
        if self._socket == _NONE:
            return False
        peeking = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=self._socket)
        try:
            if _TCP_INFO is not None:  # does not let go of Python's lock, for which other threads may be waiting
                return peeking.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1) != _ESTABLISHED
            return peeking.recv(1, socket.MSG_PEEK) != _LATE_TICKET
        except BlockingIOError:
            return False  # open, and silent as it should be
        except OSError:
            return True
        finally:
            peeking.detach()  # it is libcurl's

    def close(self) -> None:
        if self._multi is not None:
            self._multi.close()
        self._curl.close()

    def _prepare(self, template: Template) -> None:
        curl = self._curl
        curl.setopt(pycurl.URL, template.url)
        curl.setopt(pycurl.HTTPHEADER, [*template.headers, "Expect:"])  # no asking before the body is sent
        curl.setopt(pycurl.POST if template.method == "POST" else pycurl.HTTPGET, 1)
        curl.setopt(pycurl.PROXY, _proxy_of(template.url))
        curl.setopt(pycurl.NOPROXY, "")  # settled by the line above
        self._template = template

    def _hand_over(self, body: bytes) -> None:
        """Sets the body as a stream that goes forward only.

        What libcurl holds as a whole it sends again by itself where a connection that was kept ends without an answer:
        a request that may have been paid for, twice, with nobody knowing. A stream it cannot wind back, and says so.
        """
        self._curl.setopt(pycurl.POSTFIELDSIZE, len(body))
        self._curl.setopt(pycurl.READFUNCTION, BytesIO(body).read)

    def _perform(self) -> None:
        """Waits inside libcurl; in the main thread by small steps, since signals are handled between them only."""
        if threading.current_thread() is not threading.main_thread():
            self._curl.perform()
            self._socket = self._curl.getinfo(pycurl.ACTIVESOCKET)
            return
        if self._multi is None:
            self._multi = pycurl.CurlMulti()
        self._multi.add_handle(self._curl)
        try:
            while self._multi.perform()[1]:
                self._multi.select(_LONGEST_WAIT)
            for _curl, number, message in self._multi.info_read()[2]:
                raise pycurl.error(number, message)
            self._socket = self._curl.getinfo(pycurl.ACTIVESOCKET)
        finally:
            self._multi.remove_handle(self._curl)

    def _receive_line(self, line: bytes) -> int | None:
        if len(self._lines) >= MAX_HEADER_LINES:
            return _TOO_MUCH
        self._lines.append(line)
        return None

    def _receive(self, chunk: bytes) -> int | None:
        self._received += len(chunk)
        if self._received > MAX_REPLY_BYTES:
            return _TOO_MUCH
        self._chunks.append(chunk)
        return None

    def _explained(self, error: pycurl.error, address: str, timeout: float) -> ThresherError:
        number, message = error.args[0], str(error.args[1])
        if self._received > MAX_REPLY_BYTES:
            return PermanentLLMError(f"{address} answered more than {MAX_REPLY_BYTES} bytes.")
        if number == pycurl.E_OPERATION_TIMEDOUT:
            is_connected = self._curl.getinfo(pycurl.PRETRANSFER_TIME) > 0
            if is_connected or timeout <= CONNECT_TIMEOUT:
                return TransientLLMError(f"{address} did not answer within {timeout:g} s.")
            return TransientLLMError(f"{address} did not take a connection within {CONNECT_TIMEOUT:g} s.")
        if number in _NOTHING_CAME:
            return TransientLLMError(f"{address} closed the connection without an answer.")
        reason = " ".join(message.split())[:200].rstrip(".") or f"error {number} of libcurl"
        if number in _CERTIFICATE_ERRORS:
            reason += "; if you trust its certificate, name a file that vouches for it in SSL_CERT_FILE"
        return TransientLLMError(f"{address} cannot be reached: {reason}.")


def _headers(lines: Sequence[bytes]) -> dict[bytes, bytes]:
    """The headers of the last reply: interim replies and those of a proxy come before it."""
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.lower(), value.strip())
        elif line.startswith(b"HTTP/"):
            headers.clear()
    return headers


def _proxy_of(url: str) -> str:
    """The proxy for an address, empty where there is none."""
    parts = urlsplit(url)
    proxies = getproxies()
    if not proxies or proxy_bypass(parts.hostname or ""):
        return ""
    return proxies.get(parts.scheme) or proxies.get("all") or ""


def _trust_as_the_system_does(curl: pycurl.Curl) -> None:
    """The TLS library that comes with libcurl does not know where this system keeps its certificates."""
    certificates = system_certificates()
    if certificates is None:
        curl.setopt(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)
        return
    curl.setopt(pycurl.CAINFO, certificates.file)
    curl.setopt(pycurl.CAPATH, certificates.folder)
