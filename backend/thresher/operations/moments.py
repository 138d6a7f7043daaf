"""What onlookers are told of a run, or of a batch of them: whole states at one moment, as they are sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime
from typing import Literal

from thresher.engine.budget import Budget, Spending
from thresher.engine.gate import Load
from thresher.engine.progress import ItemFinished
from thresher.engine.work import Counts, Fallback, RunStatus, Usage
from thresher.persistence.repositories.statistics import TimedAttempt

EventName = Literal["progress", "finished"]


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes by state; they always add up to ``total``."""

    total: int = 0
    pending: int = 0
    running: int = 0
    succeeded: int = 0
    skipped: int = 0
    dead: int = 0
    cancelled: int = 0

    @classmethod
    def of(cls, counts: Counts, in_hand: int = 0) -> Nodes:
        """The counts of a run; of a session's own, to which all that is open is pending, ``in_hand`` are running."""
        running = max(counts.running, min(in_hand, counts.open))
        ended = counts.succeeded, counts.skipped, counts.dead, counts.cancelled
        return cls(counts.total, counts.open - running, running, *ended)

    def __add__(self, other: Nodes) -> Nodes:
        return Nodes(*(getattr(self, name) + getattr(other, name) for name in Nodes.__dataclass_fields__))

    @property
    def finished(self) -> int:
        """Those that need no more work."""
        return self.succeeded + self.skipped + self.dead + self.cancelled


@dataclass(frozen=True, slots=True)
class ResourceLoad:
    """The server of the model: what it is asked and what it takes; rates per second, null: no limit is known."""

    name: str
    in_flight: int
    waiting: int
    concurrency: int | None
    circuit: str
    pause_seconds: float
    requests_per_second: float
    requests_limit: float | None
    tokens_limit: float | None

    @classmethod
    def of(cls, load: Load) -> ResourceLoad:
        """The load of a gate."""
        limits = [None if rate is None else round(rate, 2) for rate in (load.requests_limit, load.tokens_limit)]
        circuit = load.circuit.value
        counts = load.in_flight, load.waiting, load.concurrency
        rates = round(load.pause, 1), round(load.requests_per_second, 2)
        return cls(load.resource, *counts, circuit, *rates, *limits)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What may be spent and what is; ``spent`` and ``share`` null: unknown."""

    amount: float
    unit: str
    spent: float | None
    share: float | None

    @classmethod
    def of(cls, budget: Budget | None, usage: Usage) -> BudgetState | None:
        """The budget of a run, None where it has none."""
        if budget is None:
            return None
        spent = budget.spent_of(Spending(usage.prompt_tokens + usage.completion_tokens, usage.cost_usd))
        amount = float(budget.amount)
        return cls(amount, budget.unit.value, rounded(spent, 6), None if spent is None else round(spent / amount, 4))


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time of the last tries, in seconds; ``tries``: over how many."""

    p50: float
    p90: float
    p99: float
    tries: int

    @classmethod
    def of(cls, durations: Sequence[float]) -> Latency | None:
        """Nearest-rank percentiles; None where nothing was tried."""
        if not durations:
            return None
        ordered, count = sorted(durations), len(durations)
        p50, p90, p99 = (round(ordered[math.ceil(count * share) - 1], 4) for share in (0.5, 0.9, 0.99))
        return cls(p50, p90, p99, count)


@dataclass(frozen=True, slots=True)
class Failure:
    """A try that failed."""

    node: str
    item: int
    attempt: int
    error_class: str
    message: str | None
    at: datetime

    @classmethod
    def of(cls, one: ItemFinished | TimedAttempt, at: datetime) -> Failure:
        """An attempt, as its session or its row tells it."""
        item, attempt = (one.item, one.attempt) if isinstance(one, ItemFinished) else (one.item_id, one.number)
        return cls(one.key, item, attempt, one.error_class or "", one.error_message, at)


@dataclass(frozen=True, slots=True)
class SlowNode:
    """A try that took long."""

    node: str
    item: int
    attempt: int
    seconds: float

    @classmethod
    def of(cls, one: ItemFinished | TimedAttempt) -> SlowNode:
        """An attempt, as its session or its row tells it."""
        item, attempt = (one.item, one.attempt) if isinstance(one, ItemFinished) else (one.item_id, one.number)
        return cls(one.key, item, attempt, round(one.duration, 3))


@dataclass(frozen=True, slots=True)
class RunMoment:
    """A run at one moment: one event.

    ``event``: ``finished`` is sent once, as the last. ``number`` orders the events of a run. ``source``: ``live`` where
    the server that tells works on the run itself, ``rows`` where it reads what another process has written.
    ``committed_at``: when the newest try was committed that this event tells of, ``news_since``: the oldest that no
    event has told of before; null where nothing new was committed. ``share``: of all nodes that are finished, 0 to 1,
    null until all are known. ``speedup``: time within nodes over time of the clock. ``stopping``: why no further node
    starts. ``is_left``: the processes that had its nodes in hand have ended. ``batch``: the line of its batch.
    """

    event: EventName
    run_id: str
    status: str
    source: Literal["live", "rows"]
    told_at: datetime
    nodes: Nodes
    planning_complete: bool
    share: float | None
    elapsed_seconds: float
    speedup: float
    requests: int
    cache_hits: int
    tokens: int
    cost_usd: float | None
    budget: BudgetState | None
    mode: str
    mode_reason: str
    fallbacks: Sequence[Fallback]
    number: int = 0
    requested: str | None = None
    committed_at: datetime | None = None
    news_since: datetime | None = None
    facts: int = 0
    nodes_per_second: float = 0.0
    eta_seconds: float | None = None
    in_hand: int = 0
    workers: int | None = None
    resource: ResourceLoad | None = None
    latency: Latency | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    last_errors: Sequence[Failure] = ()
    slowest: Sequence[SlowNode] = ()
    stopping: str | None = None
    error: Mapping[str, object] | None = None
    is_left: bool = False
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a batch by the state of their runs; they always add up to ``total``.

    Who has no run yet is pending, who will get none has failed or was cancelled. Duplicates are not counted.
    """

    total: int = 0
    pending: int = 0
    running: int = 0
    paused: int = 0
    succeeded: int = 0
    partial: int = 0
    failed: int = 0
    cancelled: int = 0

    @classmethod
    def of(cls, counts: Mapping[RunStatus, int]) -> Documents:
        """Documents of these states."""
        return cls(sum(counts.values()), **{status.value: count for status, count in counts.items()})

    def __add__(self, other: Documents) -> Documents:
        """All of both."""
        return Documents(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))

    @property
    def done(self) -> int:
        """Those that have ended, in whatever way."""
        return self.succeeded + self.partial + self.failed + self.cancelled

    def line(self, batch_id: str) -> str:
        """For people: ``Batch b1: 12 of 50 documents, 3 running, 1 failed``."""
        named = ("running", "paused", "partial", "failed", "cancelled")
        some = [f"{getattr(self, name)} {name}" for name in named if getattr(self, name)]
        return ", ".join((f"Batch {batch_id}: {self.done} of {self.total} documents", *some))


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run of a batch that is under way."""

    run_id: str
    status: str
    nodes: Nodes
    facts: int


@dataclass(frozen=True, slots=True)
class BatchMoment:
    """A batch at one moment: one event. ``line`` says it for people; ``runs`` are those under way, 50 at most."""

    event: EventName
    batch_id: str
    line: str
    told_at: datetime
    committed_at: datetime | None
    news_since: datetime | None
    documents: Documents
    nodes: Nodes
    facts: int
    nodes_per_second: float
    last_errors: Sequence[Failure]
    runs: Sequence[RunLine]
    number: int = 0


Moment = RunMoment | BatchMoment


def numbered(moment: Moment, number: int, batch: str | None = None) -> Moment:
    """The same as the event with this number; of a run also with the line of its batch."""
    if isinstance(moment, RunMoment):
        return replace(moment, number=number, batch=batch)
    return replace(moment, number=number)


def rounded(value: float | None, digits: int) -> float | None:
    """The same for what may be unknown."""
    return None if value is None else round(value, digits)
