"""Bodies of requests while they arrive: how large they may be, and how slow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

SLOWEST: Final = (16 * 1024, 30.0)  # bytes for which so many seconds are waited, until all is there
MOST_DRAINED: Final = 64 * 1024 * 1024  # bytes that are read and forgotten after an early answer
LONGEST_DRAIN: Final = 10.0  # seconds
_KEY: Final = "thresher.body"


def take_more(scope: Mapping[str, Any]) -> int:
    """Lifts the bound on the size of the body of the request with this ASGI scope, for a reader that has its own.

    Returns what the bound was, in bytes.
    """
    body: BoundedBody = scope[_KEY]
    return body.lift()


class BoundedBody:
    """The body of one request on its way in, and the answer on its way out.

    Who is still sending when the answer is there already gets to see it: what is on its way is read for a while, as a
    connection that is closed before that is reset, and the answer lost.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        self._receive = receive
        self._send = send
        self._most: int | None = max_bytes
        self._max_bytes = max_bytes
        self._announced = int(announced) if announced.isdigit() else 0
        self._is_complete = not self._announced and "transfer-encoding" not in headers
        self._is_held_back = headers.get("expect", "").lower() == "100-continue"  # until somebody wants to read it
        scope[_KEY] = self
        self._size = self._size_seen = 0  # bytes: all, and those that patience was given for
        self._patience = SLOWEST[1]  # seconds

    def lift(self) -> int:
        """Bounds the size no more; returns what the bound was, in bytes."""
        self._most = None
        return self._max_bytes

    async def receive(self) -> Message:
        """The next piece.

        Raises:
            HTTPException: it is too large (413), or too slow (408).
        """
        if self._is_complete:
            return await self._receive()  # of interest is only whether the client goes away
        self._check_size(self._announced)
        self._is_held_back = False
        message = await self._in_time()
        self._check_size(self._size)
        return message

    async def send(self, message: Message) -> None:
        """Passes the answer on; its end waits until the client has stopped sending, if it has begun."""
        if self._is_complete:
            await self._send(message)
        elif message["type"] == "http.response.start":
            await self._send({**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]})
        elif self._is_held_back or message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._drain()
            await self._send({"type": "http.response.body"})

    def _check_size(self, size: int) -> None:
        if self._most is not None and size > self._most:
            raise HTTPException(413, f"The request is larger than {self._most:,} bytes, the most that is taken here.")

    async def _in_time(self) -> Message:
        """Only waiting counts: time in which nobody here reads is not the sender's."""
        least, seconds = SLOWEST
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(self._patience):
                message = self._count(await self._receive())
        except TimeoutError:
            raise HTTPException(408, f"Less than {least:,} bytes came in {seconds:g} seconds.") from None
        self._patience -= clock() - begun
        if self._size - self._size_seen >= least:
            self._patience, self._size_seen = seconds, self._size
        return message

    async def _drain(self) -> None:
        before = self._size
        try:
            async with asyncio.timeout(LONGEST_DRAIN):
                while not self._is_complete and self._size - before < MOST_DRAINED:
                    self._count(await self._receive())
        except TimeoutError:
            pass

    def _count(self, message: Message) -> Message:
        self._size += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        return message
