"""HTTP/1.1 for many threads at once, at less CPU than httpx2's own transport: see docs/benchmarks.md.

The standard library reads replies, a request leaves in one write, and a connection belongs to one thread for one
request: there is no pool to lock or to search.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore

import httpx2

_CHUNK_BYTES = 64 * 1024
_KEPT_IDLE = 5.0  # seconds; servers close theirs soon after
_TRUSTED_IDLE = 0.5  # seconds; after that a connection is looked at before it is used again
_PORTS = {"http": 80, "https": 443}

_Origin = tuple[str, str, int]
"""Scheme, host and port."""


@dataclass(frozen=True, slots=True)
class _Idle:
    """A connection that waits for its next request, and since when (monotonic seconds)."""

    connection: socket.socket
    since: float

    def is_usable(self) -> bool:
        """Not too old, and not closed by the server: then there would be something to read."""
        age = time.monotonic() - self.since
        return age < _TRUSTED_IDLE or (age < _KEPT_IDLE and not _is_readable(self.connection))


class KeepAliveTransport(httpx2.BaseTransport):
    """Sends each request over a connection of its own, ``connections`` at most at a time; they stay open for the next.

    No proxies, no HTTP/2. Its errors are those of httpx2. Safe to use from any thread.
    """

    def __init__(self, connections: int, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._permits = BoundedSemaphore(connections)
        self._idle: dict[_Origin, deque[_Idle]] = {}  # each deque is safe by itself; the newest is used first

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends a request whose body is in memory; the reply's body is read from the connection as it is iterated.

        Raises:
            httpx2.TimeoutException, httpx2.TransportError: see the classes below them.
        """
        timeouts = request.extensions["timeout"]
        origin = (request.url.scheme, request.url.host, request.url.port or _PORTS[request.url.scheme])
        if not self._permits.acquire(timeout=timeouts["pool"]):
            raise httpx2.PoolTimeout("all connections are in use")
        connection = None
        try:
            connection = self._take(origin) or self._connect(origin, timeouts["connect"])
            reply = _exchanged(connection, request, timeouts["read"])
        except BaseException:
            self._end(connection)
            raise
        body = _Body(reply, lambda reusable: self._end(connection, origin if reusable else None))
        return httpx2.Response(reply.status, headers=reply.getheaders(), stream=body)

    def _end(self, connection: socket.socket | None, origin: _Origin | None = None) -> None:
        """The end of a request, whose connection is kept where ``origin`` is given."""
        if origin is not None and connection is not None:
            self._idle.setdefault(origin, deque()).append(_Idle(connection, time.monotonic()))
        elif connection is not None:
            connection.close()
        self._permits.release()

    def close(self) -> None:
        """Closes the connections that are not in use."""
        for idle in self._idle.values():
            while idle:
                idle.pop().connection.close()

    def _take(self, origin: _Origin) -> socket.socket | None:
        waiting = self._idle.get(origin)
        while waiting:
            try:
                idle = waiting.pop()
            except IndexError:  # another thread was quicker
                return None
            if idle.is_usable():
                return idle.connection
            idle.connection.close()
        return None

    def _connect(self, origin: _Origin, timeout: float) -> socket.socket:
        scheme, host, port = origin
        try:
            connection = socket.create_connection((host, port), timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._secured(connection, host) if scheme == "https" else connection
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error

    def _secured(self, connection: socket.socket, host: str) -> ssl.SSLSocket:
        """TLS over a connection, which is closed where the server is not who it should be."""
        try:
            if self._context is None:
                self._context = httpx2.create_ssl_context()
            return self._context.wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise


class _Body(httpx2.SyncByteStream):
    """The body of a reply, as it comes; ``end`` is told, once, whether the connection can be used again."""

    def __init__(self, reply: http.client.HTTPResponse, end: Callable[[bool], None]) -> None:
        self._reply = reply
        self._end: Callable[[bool], None] | None = end
        self._missing = reply.length or 0  # bytes; chunked replies tell their end by themselves
        self._is_read = False

    def __iter__(self) -> Iterator[bytes]:
        with _errors_mapped():
            while chunk := self._reply.read1(_CHUNK_BYTES):
                self._missing -= len(chunk)
                yield chunk
        if self._missing > 0:
            raise httpx2.RemoteProtocolError("the connection was closed before the end of the answer")
        self._is_read = True

    def close(self) -> None:
        self._reply.close()
        end, self._end = self._end, None
        if end is not None:
            end(self._is_read and not self._reply.will_close)


def _exchanged(connection: socket.socket, request: httpx2.Request, timeout: float) -> http.client.HTTPResponse:
    """Sends a request and reads the head of its reply."""
    with _errors_mapped():
        connection.settimeout(timeout)
        connection.sendall(_head(request) + request.read())
        reply = http.client.HTTPResponse(connection, method=request.method)
        try:
            reply.begin()
        except BaseException:
            reply.close()
            raise
        return reply


def _head(request: httpx2.Request) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in request.headers.raw]
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), request.url.raw_path, b"".join(lines))


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _errors_mapped() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise httpx2.ReadTimeout(str(error)) from error
    except http.client.RemoteDisconnected as error:
        raise httpx2.RemoteProtocolError("the server closed the connection without an answer") from error
    except http.client.HTTPException as error:
        raise httpx2.RemoteProtocolError(f"the answer is no HTTP/1.1 ({type(error).__name__})") from error
    except OSError as error:
        raise httpx2.ReadError(str(error)) from error
