"""A host takes queued runs, works on some at once, and leaves what is not finished to the next one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Condition, Event

import pytest

from thresher.core.errors import BadInput, DatabaseUnavailable, StateConflict
from thresher.engine.control import RunControl
from thresher.engine.feed import ProgressFeed
from thresher.engine.host import HostOptions, RunHost
from thresher.engine.ports import QueuedRun
from thresher.engine.progress import Listener
from thresher.engine.work import Counts, Mode, Priority, RunReport, RunStatus, Usage

NORMAL, LOW, IMMEDIATE = Priority.NORMAL, Priority.LOW, Priority.IMMEDIATE


class ListedQueue:
    """The queue of one process, in memory."""

    def __init__(self, *runs: tuple[str, Priority]) -> None:
        self.changed = Condition()  # protects all below
        self.waiting = [QueuedRun(run_id, priority, datetime.now(UTC)) for run_id, priority in runs]
        self.taken: list[str] = []
        self.put: list[str] = []
        self.removed: list[str] = []
        self.failures: list[Exception] = []
        self.looks = 0  # that found nothing

    def take(
        self, _owner: str, _lease: float, full: Collection[Priority], _in_hand: Collection[str]
    ) -> QueuedRun | None:
        with self.changed:
            if self.failures:
                raise self.failures.pop()
            free = sorted((run for run in self.waiting if run.priority not in full), key=lambda run: run.priority)
            if not free:
                self.looks += 1
                self.changed.notify_all()
                return None
            self.waiting.remove(free[0])
            self.taken.append(free[0].run_id)
            self.changed.notify_all()
            return free[0]

    def renew(self, _owner: str, _lease: float, _in_hand: Collection[str]) -> int:
        return 0

    def recover(self, _is_dead: Callable[[str], bool]) -> None:
        pass

    def put_back(self, taken: QueuedRun, _owner: str) -> None:
        self._note(self.put, taken)

    def remove(self, taken: QueuedRun, _owner: str) -> None:
        self._note(self.removed, taken)

    def _note(self, where: list[str], taken: QueuedRun) -> None:
        with self.changed:
            where.append(taken.run_id)
            self.changed.notify_all()

    def until(self, is_so: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(is_so, timeout=30)


class Sessions:
    """Work that goes on until it is let go, or its control stops it."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.ends: dict[str, Event] = {}

    def end_of(self, run_id: str) -> Event:
        return self.ends.setdefault(run_id, Event())

    def __call__(self, run_id: str, _listeners: Sequence[Listener], control: RunControl) -> RunReport:
        if run_id in self.errors:
            raise self.errors[run_id]
        while not self.end_of(run_id).is_set() and not control.stopping.is_set():
            control.wait(0.01)
        status = RunStatus.SUCCEEDED if self.end_of(run_id).is_set() else RunStatus.RUNNING
        return RunReport(run_id, status, Mode.PARALLEL, "", Counts(), Usage(), 0.0, 0.0, 1, {})


@contextmanager
def hosting(queue: ListedQueue, sessions: Sessions, **options: float) -> Iterator[RunHost]:
    host = RunHost(queue, sessions, ProgressFeed(), HostOptions(poll=0.05, **options))  # type: ignore[arg-type]
    host.start()
    try:
        yield host
    finally:
        host.stop()


def until_in_hand(host: RunHost, *run_ids: str) -> None:
    """What is in hand changes a moment after the queue does."""
    deadline = time.monotonic() + 30
    while set(host.in_hand) != set(run_ids):
        assert time.monotonic() < deadline, host.in_hand
        time.sleep(0.001)


def test_so_many_runs_are_worked_on_at_once_and_no_more() -> None:
    queue, sessions = ListedQueue(("a", NORMAL), ("b", NORMAL), ("c", NORMAL)), Sessions()
    with hosting(queue, sessions, runs_at_once=2) as host:
        queue.until(lambda: len(queue.taken) == 2)
        until_in_hand(host, "a", "b")
        sessions.end_of("a").set()
        queue.until(lambda: queue.taken == ["a", "b", "c"])
        assert queue.removed == ["a"]


def test_lower_priorities_take_no_place_of_higher_ones() -> None:
    queue, sessions = ListedQueue(("low", LOW), ("low too", LOW)), Sessions()
    with hosting(queue, sessions, runs_at_once=1) as host:
        queue.until(lambda: queue.taken == ["low"])
        with queue.changed:
            queue.waiting.append(QueuedRun("now", IMMEDIATE, datetime.now(UTC)))
        host.wake()
        queue.until(lambda: queue.taken == ["low", "now"])
        sessions.end_of("low").set()
        queue.until(lambda: queue.removed == ["low"])
        until_in_hand(host, "now")
        looks = queue.looks
        queue.until(lambda: queue.looks >= looks + 2)
        assert queue.taken == ["low", "now"], "a low run waits while one of a higher priority is in hand"


def test_what_a_stopping_host_has_in_hand_is_queued_again() -> None:
    queue, sessions = ListedQueue(("a", NORMAL)), Sessions()
    with hosting(queue, sessions) as host:
        queue.until(lambda: queue.taken == ["a"])
        assert host.stop()
    assert (queue.put, queue.removed) == (["a"], [])
    assert host.in_hand == ()


@pytest.mark.parametrize(
    "error", [StateConflict("somebody else works on it"), BadInput("broken"), RuntimeError("defect")]
)
def test_a_run_that_cannot_be_worked_on_harms_no_other(error: Exception) -> None:
    queue, sessions = ListedQueue(("bad", NORMAL), ("good", NORMAL)), Sessions()
    sessions.errors["bad"] = error
    sessions.end_of("good").set()
    with hosting(queue, sessions, runs_at_once=1):
        queue.until(lambda: queue.removed == ["bad", "good"])


def test_a_run_whose_database_went_away_keeps_its_place() -> None:
    queue, sessions = ListedQueue(("a", NORMAL), ("b", NORMAL)), Sessions()
    sessions.errors["a"] = DatabaseUnavailable("away")
    sessions.end_of("b").set()
    with hosting(queue, sessions, runs_at_once=1) as host:
        queue.until(lambda: queue.removed == ["b"])
        until_in_hand(host)
        assert queue.put == []


def test_a_queue_that_cannot_be_read_is_read_again() -> None:
    queue, sessions = ListedQueue(("a", NORMAL)), Sessions()
    queue.failures.append(DatabaseUnavailable("away"))
    with hosting(queue, sessions):
        queue.until(lambda: queue.taken == ["a"])


def test_a_host_that_was_never_started_is_stopped_at_once() -> None:
    assert RunHost(ListedQueue(), Sessions(), ProgressFeed()).stop()


def test_who_gives_up_waits_for_nothing_in_hand() -> None:
    class Stubborn(Sessions):
        def __call__(self, run_id: str, _listeners: Sequence[Listener], _control: RunControl) -> RunReport:
            self.end_of(run_id).wait(30)
            return super().__call__(run_id, _listeners, _control)

    queue, sessions = ListedQueue(("a", NORMAL)), Stubborn()
    with hosting(queue, sessions, grace=0.05) as host:
        until_in_hand(host, "a")
        assert not host.stop(), "the item in hand has not ended"
        assert host.in_hand == ("a",)
        sessions.end_of("a").set()
