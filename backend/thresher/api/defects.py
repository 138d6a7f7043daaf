"""Defects of ours: told once in the log and once to the client, both under the same identifier."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thresher.api.error_handlers import answer_to_defect


class Defects:
    """Middleware around everything: what nobody has foreseen becomes a problem with a ``correlation_id``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on, and catches what comes back."""
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if scope["type"] == "lifespan":
                raise
            answer = answer_to_defect(HTTPConnection(scope), error)
            if not has_begun:
                await answer(scope, receive, send)
            # An answer that has begun stays incomplete, by which the client sees that it is.
