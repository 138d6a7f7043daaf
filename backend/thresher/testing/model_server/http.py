"""HTTP/1.1 on an asyncio protocol: requests in, replies out, one at a time on each connection."""

from __future__ import annotations

import asyncio
import http
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 64 * 1024**2

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*(?=\r\n|$)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_CONTINUE = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
_KEY = re.compile(rb"\r\n(?:authorization:[ \t]*bearer|api-key:)[ \t]+([^\r\n]*)", re.IGNORECASE)


class UnreadableRequest(ValueError):
    """Raised when bytes are no HTTP request, or one over the bounds; ``status`` is what to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A request. ``path`` is without its query; ``key`` is the bearer token or api-key header, empty without."""

    method: str
    path: str
    key: str
    body: bytes
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply. ``headers`` are whole lines, each with its line end."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: bytes = b""


class Handler(Protocol):
    """Who answers requests."""

    def handle(self, request: Request, connection: Connection) -> None:
        """Answers now or later by ``connection.reply`` or ``connection.abort``, or never."""

    def connected(self) -> None:
        """A client has connected."""

    def disconnected(self) -> None:
        """A client has gone."""


class Connection(asyncio.Protocol):
    """One client's connection. ``on_lost`` is called where it ends while a request waits for its reply."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self.on_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the connection stands."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport
        self._connections.add(self)
        self._handler.connected()

    def data_received(self, data: bytes) -> None:
        """asyncio's: bytes have come."""
        self._buffer += data
        if self._request is None:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the connection has ended."""
        del exc
        self._transport = None
        self._connections.discard(self)
        self._handler.disconnected()
        if self.on_lost is not None:
            lost, self.on_lost = self.on_lost, None
            lost()

    def reply(self, reply: Reply) -> None:
        """Answers the request in hand, then takes up the next one."""
        request, self._request = self._request, None
        self.on_lost = None
        if self._transport is None:
            return
        keep_alive = request is not None and request.keep_alive
        self._transport.write(_encoded(reply, keep_alive=keep_alive))
        if not keep_alive:
            self._transport.close()
        elif self._buffer:
            asyncio.get_running_loop().call_soon(self._next)

    def abort(self) -> None:
        """Ends the connection without a word."""
        self.on_lost = None
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        if self._request is not None or self._transport is None:
            return
        try:
            self._request = self._taken()
        except UnreadableRequest as error:
            self._buffer.clear()
            self.reply(Reply(error.status, str(error).encode(), "text/plain"))
            return
        if self._request is not None:
            self._handler.handle(self._request, self)

    def _taken(self) -> Request | None:
        """The next request out of the buffer, None where it is not all there.

        Raises:
            UnreadableRequest: the bytes are no request.
        """
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD_BYTES or (end < 0 and len(self._buffer) > MAX_HEAD_BYTES):
            raise UnreadableRequest(431, "The request's head is too long.")
        if end < 0:
            return None
        head = bytes(self._buffer[:end])
        framed = _chunks(self._buffer, end + 4) if _CHUNKED.search(head) else _counted(self._buffer, end + 4, head)
        if framed is None:
            if _CONTINUE.search(head) and len(self._buffer) == end + 4 and self._transport is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body, used = framed
        del self._buffer[:used]
        return _request(head, body)


def _request(head: bytes, body: bytes) -> Request:
    line = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(line) != 3 or not line[2].startswith("HTTP/1."):
        raise UnreadableRequest(400, "The request line is no HTTP/1.1.")
    key = _KEY.search(head)
    return Request(
        method=line[0],
        path=line[1].partition("?")[0],
        key=key.group(1).decode("latin-1").strip() if key else "",
        body=body,
        keep_alive=line[2] == "HTTP/1.1" and _CLOSE.search(head) is None,
    )


def _counted(buffer: bytearray, start: int, head: bytes) -> tuple[bytes, int] | None:
    """A body by its Content-Length, and where it ends."""
    length = _LENGTH.search(head)
    count = int(length.group(1)) if length else 0
    if count > MAX_BODY_BYTES:
        raise UnreadableRequest(413, "The request's body is too long.")
    end = start + count
    return None if len(buffer) < end else (bytes(buffer[start:end]), end)


def _chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    """A chunked body, and where it ends."""
    body = bytearray()
    while True:
        line_end = buffer.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = _chunk_size(bytes(buffer[start:line_end]))
        if len(body) + size > MAX_BODY_BYTES:
            raise UnreadableRequest(413, "The request's body is too long.")
        start = line_end + 2
        if size == 0:
            end = buffer.find(b"\r\n", start)
            return None if end < 0 else (bytes(body), end + 2)
        if len(buffer) < start + size + 2:
            return None
        body += buffer[start : start + size]
        start += size + 2


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise UnreadableRequest(400, "A chunk's size is no number.") from error


_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


def _encoded(reply: Reply, *, keep_alive: bool) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}\r\n"
        f"content-type: {reply.content_type}\r\ncontent-length: {len(reply.body)}\r\n"
        f"{'' if keep_alive else 'connection: close' + chr(13) + chr(10)}"
    )
    return b"%b%b\r\n%b" % (head.encode("latin-1"), reply.headers, reply.body)
