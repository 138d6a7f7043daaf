"""What a run tells while it goes on."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from threading import Lock
from types import MappingProxyType

from thresher.engine.work import Counts, Fallback, ItemStatus, JsonValue, Mode, Run, RunReport, RunRequest, Usage

_NO_ERRORS: Mapping[str, int] = MappingProxyType({})
DURATIONS_KEPT = 100  # for the estimate of the time left


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a run at one moment. ``eta_seconds`` is None while nothing is known; rate in items per second.

    ``number`` orders the snapshots of a session: workers may come to tell them in another order than they took them.
    """

    counts: Counts
    planning_complete: bool
    usage: Usage = field(default_factory=Usage)
    errors: Mapping[str, int] = field(default_factory=dict)
    rate: float = 0.0
    eta_seconds: float | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A session of a run begins; ``resumed`` where an earlier session had begun it."""

    run: Run
    mode: Mode
    workers: int
    resumed: bool
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class ItemsPlanned:
    """More items are known, or all of them."""

    run_id: str
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class ItemFinished:
    """An attempt ended; ``status`` is PENDING where the item will be tried again. ``duration`` in seconds.

    ``item`` and ``attempt`` are the numbers of both, ``usage`` is what the attempt cost. ``committed_at``: when its
    worker was told that all of that is committed, in seconds since 1970.
    """

    run_id: str
    key: str
    status: ItemStatus
    duration: float
    error_class: str | None
    error_message: str | None
    result: JsonValue
    snapshot: Snapshot
    item: int = 0
    attempt: int = 1
    stage: str = "item"
    started_at: datetime | None = None
    usage: Usage = field(default_factory=Usage)
    committed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RunStopping:
    """No item starts any more; ``in_hand`` are being finished. ``request``: where another process asked for it."""

    run_id: str
    reason: str
    in_hand: int
    request: RunRequest | None = None


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The session is over; sent exactly once."""

    report: RunReport


@dataclass(frozen=True, slots=True)
class FellBack:
    """Another way is taken than was chosen. Told once for each way and reason; how often is in the report."""

    run_id: str
    fallback: Fallback


Event = RunStarted | FellBack | ItemsPlanned | ItemFinished | RunStopping | RunFinished
Listener = Callable[[Event], None]


class Tally:
    """Counts a session's progress in memory, starting from what the store says. Safe from any thread."""

    def __init__(self, counts: Counts, *, planning_complete: bool, workers: int) -> None:
        self._lock = Lock()  # protects all below
        self._counts: dict[str, int] = asdict(counts)  # in the order of its fields
        self._planning_complete = planning_complete
        self._at_work: Callable[[], int] = lambda: workers
        self._usage = Usage()
        self._errors: Counter[str] = Counter()
        self._durations: deque[float] = deque()
        self._sum_of_durations = 0.0  # of those that are kept
        self._started = time.monotonic()
        self._ended = 0
        self._number = 0  # of the last snapshot
        self._is_storing = False
        self._early = 0  # items that ended before the planner told of them

    def work_with(self, at_work: Callable[[], int]) -> None:
        """From now on ``at_work`` says how many work."""
        with self._lock:
            self._at_work = at_work

    @contextmanager
    def storing(self) -> Iterator[None]:
        """While inside the planner stores items and then says ``planned``: some of them may end before that."""
        with self._lock:
            self._is_storing = True
        try:
            yield
        finally:
            with self._lock:
                self._is_storing, self._early = False, 0

    def planned(self, pending: int, skipped: int, *, complete: bool = False) -> Snapshot:
        """More items are known."""
        with self._lock:
            ended = min(pending, self._early)
            self._early -= ended
            self._counts["pending"] += pending - ended
            self._counts["skipped"] += skipped
            self._planning_complete = self._planning_complete or complete
            return self._snapshot()

    def ended(self, status: ItemStatus, duration: float, usage: Usage, error_class: str | None) -> Snapshot:
        """An attempt ended; seen from here an item is pending until it is finished."""
        with self._lock:
            if status is not ItemStatus.PENDING:
                if self._counts["pending"]:
                    self._counts["pending"] -= 1
                else:  # it was planned by another process, or a moment ago
                    self._early += self._is_storing
                self._counts[status] += 1
                self._ended += 1
            if error_class is not None:
                self._errors[error_class] += 1
            self._usage += usage
            self._note_duration(duration)
            return self._snapshot()

    def _note_duration(self, duration: float) -> None:
        durations = self._durations
        durations.append(duration)
        self._sum_of_durations += duration
        if len(durations) > DURATIONS_KEPT:
            self._sum_of_durations -= durations.popleft()

    @property
    def unfinished(self) -> int:
        """Known items that still need work."""
        with self._lock:
            return self._open()

    def snapshot(self) -> Snapshot:
        """The state now."""
        with self._lock:
            return self._snapshot()

    def _snapshot(self) -> Snapshot:
        elapsed = time.monotonic() - self._started
        self._number += 1
        return Snapshot(
            Counts(*self._counts.values()),
            self._planning_complete,
            self._usage,
            dict(self._errors) if self._errors else _NO_ERRORS,
            self._ended / elapsed if elapsed > 0 else 0.0,
            self._eta(),
            self._number,
        )

    def _eta(self) -> float | None:
        """Open items times the mean of the last durations, divided by those that run side by side."""
        if not self._durations:
            return None
        mean = max(self._sum_of_durations, 0.0) / len(self._durations)
        open_items = self._open()
        return open_items * mean / max(min(self._at_work(), open_items), 1)

    def _open(self) -> int:
        return self._counts["pending"] + self._counts["running"]
