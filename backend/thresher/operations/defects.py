"""Defects of ours: told once in the log and once to the client, both under the same identifier."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thresher.core.logging import get_logger

log = get_logger(__name__)

Answer = Callable[[HTTPConnection, str], ASGIApp]
"""What the client is told of a defect with a correlation identifier."""


class Defects:
    """Middleware around everything: what nobody has foreseen becomes an answer with a ``correlation_id``."""

    def __init__(self, app: ASGIApp, answer: Answer) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on, and catches what comes back."""
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if scope["type"] == "lifespan":
                raise
            connection, number = HTTPConnection(scope), secrets.token_hex(8)
            method = scope.get("method", "WEBSOCKET")
            log.exception("request failed", correlation_id=number, path=connection.url.path, method=method)
            if not has_begun:
                await self._answer(connection, number)(scope, receive, send)
            # An answer that has begun stays incomplete, by which the client sees that it is.
