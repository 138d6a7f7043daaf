"""Progress as it is sent: one channel for each thing that somebody looks at, whatever the number of onlookers.

A channel makes each state once and encodes it once. Every onlooker is sent the newest there is when it is ready for
one: a slow one misses states in between, costs nobody anything, and is never told less than all there is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property

from fastapi.sse import format_sse_event
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from thresher.bootstrap import Service
from thresher.core.errors import NotFound, ThresherError, own_words
from thresher.core.logging import get_logger
from thresher.engine.feed import RunState, Subscription
from thresher.operations.moments import BatchMoment, Moment, numbered
from thresher.operations.progress import BatchTopic, RunTopic, Topic

log = get_logger(__name__)

SHORTEST_GAP = 0.05  # seconds between two states: 20 a second at most
LONGEST_GAP = 1.0  # seconds after which a run under way is told anew, though no node of it has ended
KEEP_ALIVE = 15.0  # seconds without an event after which a comment is sent
RETRY_AFTER = 1000  # milliseconds until a client connects again
_RESTART, _DEFECT, _NOT_FOUND = 1012, 1011, 4404  # codes to close a WebSocket with (RFC 6455; 4xxx are ours)

BatchOf = Callable[[str], str | None]
"""The batch of a run, both by their identifiers; None: it was begun by itself. May read the database."""


@dataclass(frozen=True)
class Frame:
    """One event, encoded once for all onlookers."""

    moment: Moment

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self.moment.event == "finished"

    @cached_property
    def text(self) -> str:
        """As JSON."""
        return to_json(self.moment, inf_nan_mode="null").decode()

    @cached_property
    def as_event(self) -> bytes:
        """As a server-sent event."""
        return format_sse_event(data_str=self.text, event=self.moment.event, id=self.event_id)

    @property
    def event_id(self) -> str:
        """What a client names that connects again: the last one of a run is told from all others."""
        return f"{self.moment.number}-end" if self.is_final else str(self.moment.number)


class Channel:
    """The states of one topic, for any number of onlookers, in the event loop."""

    def __init__(self, service: Service, topic: Topic, batch: Channel | None = None) -> None:
        self.newest: Frame | None = None
        self.close_code = _RESTART  # where it ends without a final event
        self._service = service
        self._topic = topic
        self._batch = batch
        self._has_changed = asyncio.Event()  # of this moment; the next change has another one
        self._has_ended = False
        self._look_at = 0.0
        self._number = 0

    async def frames(self, patience: float | None = None) -> AsyncIterator[Frame | None]:
        """The newest state, then each time the newest again; the final one is the last. None: ``patience`` is over."""
        sent: Frame | None = None
        while True:
            changed, newest = self._has_changed, self.newest
            if newest is not None and newest is not sent:
                sent = newest
                yield newest
                if newest.is_final:
                    return
                continue
            if self._has_ended:
                return
            try:
                await asyncio.wait_for(changed.wait(), patience)
            except TimeoutError:
                yield None

    async def tell(self) -> None:
        """Makes states until the final one, or until this server stops."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(news.set)

        try:
            with self._service.feed.subscribed(self._topic.run_ids, wake) as subscription:
                await self._tell(subscription, news)
        except NotFound:
            self.close_code = _NOT_FOUND
        except Exception:
            self.close_code = _DEFECT
            log.exception("progress not told")
        finally:
            self._has_ended = True
            self._change()

    async def _tell(self, subscription: Subscription, news: asyncio.Event) -> None:
        if self._batch is not None:  # its line belongs to the first state, which may be the only one
            await anext(self._batch.frames(), None)
        pause, due = 0.0, time.monotonic()
        while not subscription.is_closed:
            news.clear()
            due = max(due, time.monotonic() - SHORTEST_GAP) + SHORTEST_GAP  # one that is late delays not the next
            try:
                moment, pause = await self._next(subscription)
            except NotFound:
                raise
            except ThresherError as error:  # the database is away: nobody is sent home for that
                log.warning("progress not read", error=type(error).__name__, reason=own_words(error))
                pause = LONGEST_GAP
            else:
                self._publish(moment)
                if moment.event == "finished":
                    return
            if not subscription.is_closed:
                await _wait(news, pause)
                await asyncio.sleep(max(due - time.monotonic(), 0.0))

    async def _next(self, subscription: Subscription) -> tuple[Moment, float]:
        """The state now, and the seconds after which there is another one even without news."""
        states = subscription.take() or self._states()
        live = self._topic.live(states) if states else None
        is_due = time.monotonic() >= self._look_at
        if live is not None and not (self._topic.is_mixed and is_due):
            return live, max(self._look_at - time.monotonic(), 0.0) if self._topic.is_mixed else LONGEST_GAP
        looked = await run_in_threadpool(self._topic.look)
        self._service.feed.follow(subscription, self._topic.run_ids)
        self._look_at = time.monotonic() + self._topic.pause
        if live is not None:
            looked = replace(looked, committed_at=live.committed_at, news_since=live.news_since)
        return looked, self._topic.pause

    def _states(self) -> Mapping[str, RunState]:
        found = ((run_id, self._service.feed.state(run_id)) for run_id in self._topic.run_ids)
        return {run_id: state for run_id, state in found if state is not None}

    def _publish(self, moment: Moment) -> None:
        """Numbers are microseconds of the clock, so that they go on after a restart, and on another server."""
        number = max(self._number + 1, time.time_ns() // 1000)
        frame = Frame(numbered(moment, number, self._batch.line if self._batch else None))
        if not self._has_been_told(frame):
            self._number, self.newest = number, frame
            self._change()

    def _has_been_told(self, frame: Frame) -> bool:
        """Whether the last one, which is not old, says the same; never of a run, whose seconds go on."""
        if self.newest is None or not self._topic.is_mixed:
            return False
        last, new = self.newest.moment, frame.moment
        is_old = (new.told_at - last.told_at).total_seconds() >= LONGEST_GAP
        return not is_old and replace(new, told_at=last.told_at, number=last.number) == last

    def _change(self) -> None:
        changed, self._has_changed = self._has_changed, asyncio.Event()
        changed.set()

    @property
    def line(self) -> str | None:
        """The line of a batch, as it was told last."""
        moment = self.newest.moment if self.newest else None
        return moment.line if isinstance(moment, BatchMoment) else None


async def _wait(news: asyncio.Event, longest: float) -> None:
    """Each turn of the loop is a wait for the interpreter's lock: none is taken where there is news already."""
    if not news.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), longest)


@dataclass
class _Open:
    """A channel, the task that tells it, and how many look on."""

    channel: Channel
    task: asyncio.Task[None]
    onlookers: int = 0


class Board:
    """All channels of a server: at most one for each run and each batch, open while somebody looks on."""

    def __init__(self, service: Service, batch_of: BatchOf | None = None) -> None:
        self._service = service
        self._batch_of = batch_of
        self._open: dict[tuple[str, str], _Open] = {}

    @asynccontextmanager
    async def run(self, run_id: str) -> AsyncIterator[Channel]:
        """The channel of a run, while inside."""
        batch = await run_in_threadpool(self._batch_of, run_id) if self._batch_of else None
        async with AsyncExitStack() as stack:
            line = await stack.enter_async_context(self.batch(batch)) if batch else None
            make = lambda: Channel(self._service, RunTopic(self._service, run_id), line)  # noqa: E731 # said once
            yield await stack.enter_async_context(self._opened(("run", run_id), make))

    @asynccontextmanager
    async def batch(self, batch_id: str) -> AsyncIterator[Channel]:
        """The channel of a batch, while inside."""
        make = lambda: Channel(self._service, BatchTopic(self._service, batch_id))  # noqa: E731 # same
        async with self._opened(("batch", batch_id), make) as channel:
            yield channel

    @asynccontextmanager
    async def _opened(self, key: tuple[str, str], make: Callable[[], Channel]) -> AsyncIterator[Channel]:
        """One that has told its end is not for who comes now: what it was about may have begun anew."""
        opened = self._open.get(key)
        if opened is None or opened.task.done():
            channel = make()
            opened = self._open[key] = _Open(channel, asyncio.create_task(channel.tell()))
        opened.onlookers += 1
        try:
            yield opened.channel
        finally:
            opened.onlookers -= 1
            if not opened.onlookers:
                opened.task.cancel()
                if self._open.get(key) is opened:
                    del self._open[key]


async def tell(socket: WebSocket, channel: Channel) -> None:
    """Sends a channel's states through a WebSocket that was accepted, until the end of one of them."""
    sending = asyncio.create_task(_send(socket, channel))
    hearing = asyncio.create_task(_hear(socket))
    try:
        await asyncio.wait((sending, hearing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, hearing):
            task.cancel()
        await asyncio.gather(sending, hearing, return_exceptions=True)


async def _send(socket: WebSocket, channel: Channel) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # the other side has gone
        async for frame in channel.frames():
            if frame is not None:
                await socket.send_text(frame.text)
        is_finished = channel.newest is not None and channel.newest.is_final
        await socket.close(1000 if is_finished else channel.close_code)


async def _hear(socket: WebSocket) -> None:
    """Until the other side has gone; what it says meanwhile is not needed."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive_text()


async def events(board: Board, run_id: str) -> AsyncIterator[bytes]:
    """A run as server-sent events, until its final one."""
    yield format_sse_event(retry=RETRY_AFTER)
    async with board.run(run_id) as channel:
        async for frame in channel.frames(KEEP_ALIVE):
            yield format_sse_event(comment="still here") if frame is None else frame.as_event
