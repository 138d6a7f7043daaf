"""Bounds on what a client sends: how much, and how slowly."""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from thresher.api.error_handlers import problem_response
from thresher.operations.problems import HEAD_TOO_LARGE
from thresher.operations.request_bodies import BoundedBody

LARGEST_HEAD: Final = 32 * 1024  # bytes of the address and all headers


class Bounds:
    """Middleware: refuses heads that are too large; bodies are bounded as ``BoundedBody`` says."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is within the bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = BoundedBody(scope, receive, send, self._max_bytes)
        if _size_of_head(scope) > LARGEST_HEAD:
            refused = problem_response(
                HTTPConnection(scope),
                HEAD_TOO_LARGE,
                f"The address and the headers are larger than {LARGEST_HEAD:,} bytes together.",
            )
            await refused(scope, body.receive, body.send)
            return
        await self._app(scope, body.receive, body.send)


def _size_of_head(scope: Scope) -> int:
    address = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    return address + sum(len(name) + len(value) + 4 for name, value in scope["headers"])
