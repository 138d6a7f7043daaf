"""Lets in only who means this server: under one of its own names, and not from a page of somebody else's.

A browser on this machine sends whatever any page tells it to. Two things give such a page away. Under a name of its
own that it has pointed at this machine (DNS rebinding) the page's name is in `Host`. And what it sends to our address
comes with `Sec-Fetch-Site` (Fetch Metadata) or `Origin`, as every browser sends one of them with what may change
something, and with every WebSocket. A form needs no key while there is none, and a page's cookies come along anyway.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from thresher.api.error_handlers import answer_to
from thresher.core.errors import ForeignHost, ForeignOrigin

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing, RFC 9110, 9.2.1
_OWN_SITES: Final = frozenset({"same-origin", "none"})  # none: the reader's own doing, such as a bookmark


class OwnNames:
    """The names under which a server is asked: those of this machine, and those that ``SERVE_ALLOWED_HOSTS`` adds.

    ``is_public``: it listens to other machines. It then takes any IP address (no name can be pointed at that), and any
    name as long as none is set, since nobody does anything there without a key.
    """

    def __init__(self, added: Collection[str], *, is_public: bool) -> None:
        self._added = frozenset(name.lower() for name in added)
        self._is_public = is_public

    def check_host(self, host: str | None) -> None:
        """Refuses a `Host` that is none of this server's; who sends none is no browser.

        Raises:
            ForeignHost: it is none.
        """
        if host is not None and not self._is_own(host.lower()):
            raise ForeignHost(
                f"This server is not called {host!r}: ask it by its address, or have the name added to "
                "SERVE_ALLOWED_HOSTS."
            )

    def check_origin(self, headers: Headers) -> None:
        """Refuses what a browser sends for a page of somebody else's; what no browser sends is let through.

        Raises:
            ForeignOrigin: it is such a page's.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in _OWN_SITES or (site is None and origin is None):
            return
        if origin is not None and self._is_same(origin.lower(), headers.get("host", "").lower()):
            return
        raise ForeignOrigin(
            f"This was sent for a page of another site ({origin or site}), which may change nothing here. "
            "Use the pages of this server, or a program that is no browser."
        )

    def check(self, connection: HTTPConnection) -> None:
        """Looks at a request or at the beginning of a WebSocket.

        Raises:
            ForeignHost, ForeignOrigin: it is not meant for this server, or not by its user.
        """
        self.check_host(connection.headers.get("host"))
        if connection.scope["type"] == "websocket" or connection.scope["method"] not in _SAFE:
            self.check_origin(connection.headers)

    def _is_own(self, host: str) -> bool:
        name = _name(host)
        if name == "localhost" or {host, name} & self._added:
            return True
        with suppress(ValueError):
            address = ip_address(name)
            return self._is_public or address.is_loopback
        return self._is_public and not self._added

    def _is_same(self, origin: str, host: str) -> bool:
        """Whether an origin is the server's; its scheme is not compared, a proxy may speak TLS for it."""
        place = origin.partition("://")[2]
        return bool(place) and (place == host or place in self._added)


class SameOrigin:
    """Middleware that refuses what ``OwnNames.check`` does, for requests and WebSockets alike."""

    def __init__(self, app: ASGIApp, names: OwnNames) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is meant for this server."""
        if scope["type"] in {"http", "websocket"}:
            connection = HTTPConnection(scope)
            try:
                self._names.check(connection)
            except (ForeignHost, ForeignOrigin) as error:
                await answer_to(connection, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _name(host: str) -> str:
    """The name or address in a `Host`, without its port; empty where it is none."""
    with suppress(ValueError):
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    return ""
