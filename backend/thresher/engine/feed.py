"""Progress of the runs that this process works on, for whoever looks on: never waited for, never in the way.

A run tells its events once; every onlooker has a bounded backlog of its own. One that is too slow loses the backlog
and gets the newest state in its place, which says all that the lost events came to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock

from thresher.core.logging import get_logger
from thresher.engine.progress import (
    Event,
    FellBack,
    ItemFinished,
    ItemsPlanned,
    RunFinished,
    RunStarted,
    RunStopping,
    Snapshot,
)
from thresher.engine.work import Mode, RunReport

log = get_logger(__name__)

BACKLOG = 256  # events that an onlooker may be behind
ERRORS_KEPT = 5


@dataclass(frozen=True, slots=True)
class RunState:
    """All that the events of a session have come to. ``number`` counts them, so that states can be ordered.

    ``last_errors`` are the newest failed attempts, the newest last. ``report`` is there when the session is over.
    """

    run_id: str
    number: int = 0
    snapshot: Snapshot | None = None
    mode: Mode | None = None
    workers: int = 0
    last_errors: tuple[ItemFinished, ...] = ()
    stopping: RunStopping | None = None
    fallbacks: tuple[FellBack, ...] = ()
    report: RunReport | None = None

    def after(self, event: Event) -> RunState:
        """The state when ``event`` has happened, too."""
        state = replace(self, number=self.number + 1)
        match event:
            case RunStarted():
                return replace(state, snapshot=event.snapshot, mode=event.mode, workers=event.workers)
            case ItemsPlanned():
                return replace(state, snapshot=event.snapshot)
            case ItemFinished():
                failed = (event,) if event.error_class is not None else ()
                return replace(state, snapshot=event.snapshot, last_errors=(*self.last_errors, *failed)[-ERRORS_KEPT:])
            case RunStopping():
                return replace(state, stopping=event)
            case FellBack():
                return replace(state, fallbacks=(*self.fallbacks, event))
            case RunFinished():
                return replace(state, report=event.report)


@dataclass(frozen=True, slots=True)
class News:
    """One event, and the state that it led to. ``event`` None: the state alone, where an onlooker missed events."""

    state: RunState
    event: Event | None = None


class Subscription:
    """The news of one run for one onlooker. Safe to use from any thread.

    ``wake`` is called, from any thread, when there is something to ``take`` where there was nothing before: it must
    not wait for anything (``loop.call_soon_threadsafe(event.set)`` is right).
    """

    def __init__(self, run_id: str, wake: Callable[[], None], backlog: int) -> None:
        self.run_id = run_id
        self._wake = wake
        self._lock = Lock()  # protects all below
        self._news: deque[News] = deque()
        self._backlog = backlog
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come: this process works on no run any more."""
        with self._lock:
            return self._is_closed and not self._news

    def take(self) -> Sequence[News]:
        """All there is, oldest first; empty where there is nothing new. Never waits."""
        with self._lock:
            news = tuple(self._news)
            self._news.clear()
        return news

    def put(self, news: News) -> None:
        """Adds news; where too much has piled up, only the state remains."""
        with self._lock:
            was_empty = not self._news
            if len(self._news) >= self._backlog:
                self._news.clear()
                news = News(news.state)
            self._news.append(news)
        if was_empty:
            self._call()

    def close(self) -> None:
        """Says that nothing more will come."""
        with self._lock:
            self._is_closed = True
        self._call()

    def _call(self) -> None:
        """An onlooker that has gone (its event loop is closed) is no trouble of the run's."""
        try:
            self._wake()
        except Exception as error:  # noqa: BLE001 # whatever it is, the run goes on
            log.debug("onlooker not woken", error=type(error).__name__)


class ProgressFeed:
    """Passes the events of runs on to their onlookers, and knows the newest state of every run under way."""

    def __init__(self, backlog: int = BACKLOG) -> None:
        self._backlog = backlog
        self._lock = Lock()  # protects all below; held while news are put, so that each onlooker gets them in order
        self._states: dict[str, RunState] = {}
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._is_closed = False

    def listener(self, run_id: str) -> Callable[[Event], None]:
        """The listener for one session of a run."""
        return lambda event: self._tell(run_id, event)

    def state(self, run_id: str) -> RunState | None:
        """The newest state of a run, None where this process does not work on it."""
        with self._lock:
            return self._states.get(run_id)

    @contextmanager
    def subscribed(self, run_id: str, wake: Callable[[], None]) -> Iterator[Subscription]:
        """The news of a run while inside, its state first where this process works on it already.

        Whether anybody works on the run, or another process does, is not known here: the rows of the run say it.
        """
        subscription = Subscription(run_id, wake, self._backlog)
        with self._lock:
            self._subscriptions.setdefault(run_id, []).append(subscription)
            if (state := self._states.get(run_id)) is not None:
                subscription.put(News(state))
            if self._is_closed:
                subscription.close()
        try:
            yield subscription
        finally:
            self._leave(subscription)

    def close(self) -> None:
        """Sends all onlookers home."""
        with self._lock:
            self._is_closed = True
            everyone = [subscription for some in self._subscriptions.values() for subscription in some]
        for subscription in everyone:
            subscription.close()

    def _tell(self, run_id: str, event: Event) -> None:
        with self._lock:
            state = self._states.get(run_id, RunState(run_id)).after(event)
            if isinstance(event, RunFinished):
                self._states.pop(run_id, None)
            else:
                self._states[run_id] = state
            news = News(state, event)
            for subscription in self._subscriptions.get(run_id, ()):
                subscription.put(news)

    def _leave(self, subscription: Subscription) -> None:
        with self._lock:
            left = self._subscriptions[subscription.run_id]
            left.remove(subscription)
            if not left:
                del self._subscriptions[subscription.run_id]
