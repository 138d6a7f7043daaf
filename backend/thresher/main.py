"""The ASGI process: opens the service, listens, and leaves everything in good order."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from thresher.api.app import create_app
from thresher.api.bounds import LARGEST_HEAD
from thresher.api.guards import guarded
from thresher.bootstrap import Service, open_service
from thresher.core.config import Settings
from thresher.core.errors import BadConfiguration
from thresher.operations.access import LOOPBACK, check_address
from thresher.web.app import create_pages, is_page

Announce = Callable[[str, bool], None]
"""Called when the server answers, with its address and whether keys are needed."""

SLOWEST_HEAD = 15.0  # seconds from the first byte of a request to the end of its headers


def serve(settings: Settings, announce: Announce) -> bool:
    """Serves until SIGTERM or SIGINT; says whether everything in hand had ended by then.

    Raises:
        BadConfiguration: the address cannot be used, or may not without keys; or the model's settings are unusable.
        DatabaseUnusable: the database cannot be opened.
    """
    host, port = settings.serve_host, settings.serve_port
    with open_service(settings) as service:
        check_address(service, host)
        _ = service.discovery.client  # says at once what is missing, and imports now what is slow to import
        is_public = host not in LOOPBACK
        with _listening(host, port) as listening:
            config = uvicorn.Config(
                guarded(create_site(service, is_public=is_public), settings, is_public=is_public),
                log_config=None,
                access_log=False,
                server_header=False,
                http=_Protocol,
                h11_max_incomplete_event_size=2 * LARGEST_HEAD,  # up to that the answer can be a problem
                ws="websockets-sansio",
                ws_per_message_deflate=False,  # would compress each state once for each onlooker
                timeout_graceful_shutdown=5,
            )
            address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
            server = _Server(config, service, lambda: announce(address, is_public))
            asyncio.run(server.serve([listening]))
        return not service.host.in_hand


def create_site(service: Service, *, is_public: bool = False) -> ASGIApp:
    """The API and the pages beside it: each answers, also with its errors, what is addressed to it."""
    api = create_app(service, is_public=is_public)
    pages = create_pages(service, api.state.doorkeeper, api.state.tickets)

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        await (pages if is_page(scope) else api)(scope, receive, send)

    return site


class _Server(uvicorn.Server):
    """A server that tells its runs and onlookers at the first signal that it is going to stop."""

    def __init__(self, config: uvicorn.Config, service: Service, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer, then says so."""
        await super().startup(sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Sends onlookers home first: who waits for news would keep the server waiting."""
        self._service.feed.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops in good order, the second leaves what is in hand."""
        if self.should_exit:
            self._service.host.give_up()
        self._service.host.stop_soon()
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while serving; they are not raised again afterwards, when all has been done already."""
        previous = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class _Protocol(H11Protocol):
    """A connection that is closed when the head of a request takes too long; uvicorn itself waits forever."""

    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Waits no longer when the head is there; waits for the next one from its first byte on."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Has nothing to wait for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._giving_up is None:
            self._giving_up = self.loop.call_later(SLOWEST_HEAD, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, so that asyncio sees it is TCP: else it leaves Nagle's algorithm on, and answers wait 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise BadConfiguration(
            f"{host}:{port} cannot be listened on ({error.strerror}): is another server using it? "
            "Choose another port with --port, or 0 for a free one."
        ) from error
    return listening
