"""Progress of the runs that this process works on, for whoever looks on: never waited for, never in the way.

A run tells its events once. An onlooker is not told each of them: it is woken when there is news and takes the newest
state, which says all that the events came to. So nobody can be behind, and what is not looked at costs nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from heapq import heappush, heappushpop
from threading import Lock

from thresher.core.logging import get_logger
from thresher.engine.progress import (
    Event,
    FellBack,
    ItemFinished,
    ItemsPlanned,
    Listener,
    RunFinished,
    RunStarted,
    RunStopping,
    Snapshot,
)
from thresher.engine.work import Fallback, Run, RunReport, Totals

log = get_logger(__name__)

ERRORS_KEPT = 5
SLOWEST_KEPT = 5
DURATIONS_KEPT = 500  # for percentiles of the latency


@dataclass(frozen=True, slots=True)
class Background:
    """What the events of a session do not say.

    ``earlier`` and ``facts`` are what the sessions before came to, ``resource`` is who is asked (None: nobody),
    ``in_hand`` tells how many attempts are under way.
    """

    earlier: Totals = field(default_factory=Totals)
    facts: int = 0
    resource: str | None = None
    in_hand: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True)
class RunState:
    """All that the events of a session have come to.

    ``run`` is the run as it began, with the mode that was decided; None until then. ``facts`` and ``item_seconds`` are
    sums over this session, ``durations`` those of the last attempts, ``seconds`` how long the session lasts so far.
    ``last_errors`` are the newest failed attempts, the newest last; ``slowest`` the longest ones, the longest first.
    ``committed_at``: when the newest attempt of it was committed (seconds since 1970), ``news_since``: the oldest one
    that whoever takes this state was not told of before. ``report`` is there when the session is over.
    """

    background: Background
    run: Run | None = None
    snapshot: Snapshot | None = None
    workers: int = 0
    facts: int = 0
    item_seconds: float = 0.0
    seconds: float = 0.0
    durations: tuple[float, ...] = ()
    last_errors: tuple[ItemFinished, ...] = ()
    slowest: tuple[ItemFinished, ...] = ()
    stopping: RunStopping | None = None
    fallbacks: Sequence[Fallback] = ()
    committed_at: float | None = None
    news_since: float | None = None
    report: RunReport | None = None
    is_over: bool = False


class _Session:
    """What a session has told so far. Protected by the lock of the feed."""

    def __init__(self) -> None:
        self.is_over = False
        self._state = RunState(Background())
        self._snapshot: Snapshot | None = None
        self._facts = 0
        self._item_seconds = 0.0
        self._started = time.monotonic()
        self._durations: deque[float] = deque(maxlen=DURATIONS_KEPT)
        self._errors: deque[ItemFinished] = deque(maxlen=ERRORS_KEPT)
        self._slowest: list[tuple[float, int, int, ItemFinished]] = []  # a heap, the shortest of them first
        self._committed_at: float | None = None

    def describe(self, background: Background) -> None:
        self._state = replace(self._state, background=background)

    def hear(self, event: Event) -> None:
        match event:
            case ItemFinished():
                self._attempt_ended(event)
            case ItemsPlanned():
                self._see(event.snapshot)
            case RunStarted():
                self._see(event.snapshot)
                self._state = replace(self._state, run=event.run, workers=event.workers, fallbacks=event.run.fallbacks)
            case RunStopping():
                self._state = replace(self._state, stopping=event)
            case FellBack():
                self._state = replace(self._state, fallbacks=(*self._state.fallbacks, event.fallback))
            case RunFinished():
                self._state = replace(self._state, report=event.report)

    def _see(self, snapshot: Snapshot) -> None:
        if self._snapshot is None or snapshot.number >= self._snapshot.number:
            self._snapshot = snapshot

    def _attempt_ended(self, event: ItemFinished) -> None:
        self._see(event.snapshot)
        self._committed_at = max(event.committed_at, self._committed_at or 0.0)
        self._item_seconds += event.duration
        self._durations.append(event.duration)
        facts = event.result.get("facts") if isinstance(event.result, Mapping) else None
        self._facts += facts if isinstance(facts, int) else 0
        if event.error_class is not None:
            self._errors.append(event)
        entry = event.duration, event.item, event.attempt, event
        if len(self._slowest) < SLOWEST_KEPT:
            heappush(self._slowest, entry)
        elif event.duration > self._slowest[0][0]:
            heappushpop(self._slowest, entry)

    def state(self, news_since: float | None = None) -> RunState:
        return replace(
            self._state,
            snapshot=self._snapshot,
            facts=self._facts,
            item_seconds=self._item_seconds,
            seconds=time.monotonic() - self._started,
            durations=tuple(self._durations),
            last_errors=tuple(self._errors),
            slowest=tuple(entry[-1] for entry in sorted(self._slowest, key=lambda entry: entry[0], reverse=True)),
            committed_at=self._committed_at,
            news_since=news_since,
            is_over=self.is_over,
        )


class Subscription:
    """The news of some runs for one onlooker. Safe to use from any thread.

    ``wake`` is called, from any thread, when there is something to ``take`` where there was nothing before: it must
    not wait for anything (``loop.call_soon_threadsafe(event.set)`` is right).
    """

    def __init__(self, lock: Lock, wake: Callable[[], None]) -> None:
        self._lock = lock  # the feed's: protects all below
        self._wake = wake
        self.run_ids: set[str] = set()  # whose news come here; for the holder of the lock
        self._changed: dict[str, tuple[_Session, float | None]] = {}  # with the oldest commit that was not taken yet
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come: this process works on no run any more."""
        with self._lock:
            return self._is_closed and not self._changed

    def take(self) -> Mapping[str, RunState]:
        """The newest state of each run that has told something since the last call. Never waits.

        Of a run whose session ended and that was begun anew since, it is the state of the new session.
        """
        with self._lock:
            changed, self._changed = self._changed, {}
            return {run_id: session.state(since) for run_id, (session, since) in changed.items()}

    def note(self, run_id: str, session: _Session, committed_at: float | None) -> bool:
        """Keeps that a run has told something; says whether the onlooker is to be woken. For the holder of the lock."""
        was_empty = not self._changed
        _, since = self._changed.get(run_id, (session, None))
        commits = [moment for moment in (since, committed_at) if moment is not None]
        self._changed[run_id] = session, min(commits, default=None)
        return was_empty

    def close(self) -> None:
        """Says that nothing more will come. For the holder of the lock."""
        self._is_closed = True

    def call(self) -> None:
        """Wakes the onlooker; one that has gone (its event loop is closed) is no trouble of the run's."""
        try:
            self._wake()
        except Exception as error:  # noqa: BLE001 # whatever it is, the run goes on
            log.debug("onlooker not woken", error=type(error).__name__)


class ProgressFeed:
    """Passes the news of runs on to their onlookers, and knows the newest state of every run under way."""

    def __init__(self) -> None:
        self._lock = Lock()  # protects all below, and what sessions and subscriptions hold
        self._sessions: dict[str, _Session] = {}
        self._onlookers: set[Subscription] = set()
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._is_closed = False

    @contextmanager
    def session(self, run_id: str) -> Iterator[Listener]:
        """The listener for one session of a run, which is over with the block whether it has said so or not."""
        session = _Session()
        with self._lock:
            self._sessions[run_id] = session
        try:
            yield lambda event: self._hear(run_id, session, event)
        finally:
            self._end(run_id, session)

    def describe(self, run_id: str, background: Background) -> None:
        """Says what the events of a session will not; nothing where this process does not work on the run."""
        with self._lock:
            if (session := self._sessions.get(run_id)) is not None:
                session.describe(background)

    @property
    def is_closed(self) -> bool:
        """Whether all onlookers were sent home: this process works on no run any more."""
        with self._lock:
            return self._is_closed

    def state(self, run_id: str) -> RunState | None:
        """The newest state of a run, None where this process does not work on it."""
        with self._lock:
            session = self._sessions.get(run_id)
            return None if session is None else session.state()

    @contextmanager
    def subscribed(self, run_ids: Collection[str], wake: Callable[[], None]) -> Iterator[Subscription]:
        """The news of some runs while inside, first the state of those that this process works on already.

        Whether anybody works on a run, or another process does, is not known here: the rows of the run say it.
        """
        subscription = Subscription(self._lock, wake)
        with self._lock:
            self._onlookers.add(subscription)
            if self._is_closed:
                subscription.close()
        self.follow(subscription, run_ids)
        subscription.call()
        try:
            yield subscription
        finally:
            self._leave(subscription)

    def follow(self, subscription: Subscription, run_ids: Collection[str]) -> None:
        """Has the news of these runs come to an onlooker, too, as in ``subscribed``; of those it has, nothing changes.

        For an onlooker that has not left, which does not call this twice at a time.
        """
        is_news = False
        with self._lock:
            for run_id in run_ids:
                if run_id in subscription.run_ids:
                    continue
                subscription.run_ids.add(run_id)
                self._subscriptions.setdefault(run_id, []).append(subscription)
                if (session := self._sessions.get(run_id)) is not None:
                    is_news = subscription.note(run_id, session, None) or is_news
        if is_news:
            subscription.call()

    def close(self) -> None:
        """Sends all onlookers home."""
        with self._lock:
            self._is_closed = True
            everyone = tuple(self._onlookers)
            for subscription in everyone:
                subscription.close()
        for subscription in everyone:
            subscription.call()

    def _hear(self, run_id: str, session: _Session, event: Event) -> None:
        committed_at = event.committed_at if isinstance(event, ItemFinished) else None
        with self._lock:
            session.hear(event)
            to_wake = self._noted(run_id, session, committed_at)
        for subscription in to_wake:
            subscription.call()

    def _end(self, run_id: str, session: _Session) -> None:
        with self._lock:
            session.is_over = True
            if self._sessions.get(run_id) is session:
                del self._sessions[run_id]
            to_wake = self._noted(run_id, session, None)
        for subscription in to_wake:
            subscription.call()

    def _noted(self, run_id: str, session: _Session, committed_at: float | None) -> list[Subscription]:
        everyone = self._subscriptions.get(run_id, ())
        return [one for one in everyone if one.note(run_id, session, committed_at)]

    def _leave(self, subscription: Subscription) -> None:
        with self._lock:
            self._onlookers.remove(subscription)
            for run_id in subscription.run_ids:
                left = self._subscriptions[run_id]
                left.remove(subscription)
                if not left:
                    del self._subscriptions[run_id]
