"""The nouns of the engine: runs, items, attempts and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from thresher.engine.budget import Budget, Spending

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
JsonObject = Mapping[str, JsonValue]


class JsonText(str):
    """A value that has been written as JSON already: it is stored as it stands."""

    __slots__ = ()


class RunStatus(StrEnum):
    """The states of a run."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ItemStatus(StrEnum):
    """The states of an item."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    DEAD = "dead"
    CANCELLED = "cancelled"


class AttemptStatus(StrEnum):
    """How one try at an item ended. ``LOST``: its process ended without a word."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    INTERRUPTED = "interrupted"


class RunRequest(StrEnum):
    """What a run is asked to do by somebody who does not work on it."""

    PAUSE = "pause"
    CANCEL = "cancel"


class Priority(IntEnum):
    """Which of several runs goes first where they wait for the same resource: the smaller number."""

    IMMEDIATE = 0
    NORMAL = 1
    LOW = 2

    @property
    def label(self) -> str:
        """The name as people write it: ``immediate``, ``normal``, ``low``."""
        return self.name.lower()


ENDED = frozenset({RunStatus.SUCCEEDED, RunStatus.PARTIAL, RunStatus.FAILED, RunStatus.CANCELLED})
"""The states of a run that goes on only when somebody says so (retry; resume where it failed as a whole)."""


class Mode(StrEnum):
    """How a run's items are handed to workers."""

    PARALLEL = "parallel"
    BATCH = "batch"
    SEQUENTIAL = "sequential"


SINGLE = "single"  # where an item goes that a batch did not answer: asked for by itself


@dataclass(frozen=True, slots=True)
class Fallback:
    """Another way was taken than the one that was chosen, for ``items`` items.

    ``before`` and ``after`` are modes, or ``SINGLE`` for items that a batch did not answer. ``reason`` is the real
    one, in words.
    """

    before: str
    after: str
    reason: str
    items: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What requests cost. ``cost_usd`` is None where a price is unknown, and stays so in sums.

    ``cache_hits`` counts answers that were taken from the cache instead of being asked for: they cost nothing.
    ``unsettled_*`` is what requests may have taken beside that at most: they were sent, and nothing was told of them.
    ``prompt_bytes`` are those of the prompts that ``prompt_tokens`` were counted for: what a dry run learns from.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = 0.0
    cache_hits: int = 0
    prompt_bytes: int = field(default=0, compare=False)  # measured, not spent
    unsettled_tokens: int = field(default=0, compare=False)  # a bound, not a measure
    unsettled_cost_usd: float = field(default=0.0, compare=False)

    @property
    def spent(self) -> Spending:
        """What is known to be spent."""
        return Spending(self.prompt_tokens + self.completion_tokens, self.cost_usd)

    @property
    def spent_at_most(self) -> Spending:
        """What may be spent."""
        cost = None if self.cost_usd is None else self.cost_usd + self.unsettled_cost_usd
        return Spending(self.spent.tokens + self.unsettled_tokens, cost)

    def __add__(self, other: Usage) -> Usage:
        if self is _NO_USAGE:
            return other
        if other is _NO_USAGE:
            return self
        unknown = self.cost_usd is None or other.cost_usd is None
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
            self.cache_hits + other.cache_hits,
            self.prompt_bytes + other.prompt_bytes,
            self.unsettled_tokens + other.unsettled_tokens,
            self.unsettled_cost_usd + other.unsettled_cost_usd,
        )

    def __sub__(self, other: Usage) -> Usage:
        unknown = self.cost_usd is None or other.cost_usd is None
        return Usage(
            self.requests - other.requests,
            self.prompt_tokens - other.prompt_tokens,
            self.completion_tokens - other.completion_tokens,
            self.cached_tokens - other.cached_tokens,
            None if unknown else (self.cost_usd or 0.0) - (other.cost_usd or 0.0),
            self.cache_hits - other.cache_hits,
            self.prompt_bytes - other.prompt_bytes,
            self.unsettled_tokens - other.unsettled_tokens,
            self.unsettled_cost_usd - other.unsettled_cost_usd,
        )

    def for_prompt_of(self, size_bytes: int) -> Usage:
        """The same with the size of its prompt."""
        return Usage(
            self.requests,
            self.prompt_tokens,
            self.completion_tokens,
            self.cached_tokens,
            self.cost_usd,
            self.cache_hits,
            size_bytes,
            self.unsettled_tokens,
            self.unsettled_cost_usd,
        )

    @classmethod
    def none(cls) -> Usage:
        """Nothing spent: the same object each time, which sums know."""
        return _NO_USAGE


_NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class ItemSpec:
    """An item to be: what ``plan()`` yields and what an item may add as its children.

    ``key`` is unique within a run: the same key twice is one item. ``position`` orders results: one number
    per level, each 0 to 9,999,999,999, a child's position starts with its parent's. ``payload`` is what the
    workflow needs to process the item; it is dropped in the transaction that finishes the item unless the
    store keeps payloads. ``attributes`` stay. ``skip_reason`` plans the item as skipped.
    """

    key: str
    position: tuple[int, ...]
    payload: bytes | None = None
    attributes: JsonObject = field(default_factory=dict)
    stage: str = "item"
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """An item that this process holds by lease. ``attempt`` counts from 1 over all processes and restarts.

    ``losses``: how many processes may have ended in it (see ``ports.Store.recover``).
    """

    item_id: int
    run_id: str
    kind: str
    key: str
    position: tuple[int, ...]
    stage: str
    payload: bytes | None
    attributes: JsonObject
    attempt: int
    failures: int
    owner: str
    losses: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What processing an item yielded.

    ``result`` is a small JSON value kept on the item. ``records`` are the workflow's own rows (facts), written
    in the same transaction. ``children`` are items added to the same run in that transaction.
    """

    result: JsonValue = None
    records: Sequence[JsonObject] = ()
    children: Sequence[ItemSpec] = ()
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at an item as it is kept. ``duration`` in seconds."""

    number: int
    status: AttemptStatus
    started_at: datetime
    duration: float
    usage: Usage = Usage()
    error_class: str | None = None
    error_message: str | None = None
    raw_answer: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of an attempt, written in ONE transaction.

    ``status`` is the item's state from now on: SUCCEEDED, SKIPPED, DEAD, or PENDING for one more try, then not
    before ``retry_at`` (None: at once). ``counts_as_failure`` is False where the try says nothing of the item
    (the run failed as a whole, or was interrupted). ``attachments`` holds by kind what the attempt attached (see
    ``AttemptContext.attach``); it is written whatever the status is.
    """

    claim: Claim
    status: ItemStatus
    attempt: AttemptRecord
    outcome: Outcome = Outcome()
    retry_at: datetime | None = None
    counts_as_failure: bool = False
    attachments: Mapping[str, Sequence[JsonObject]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """Items of a run by state; they always add up to ``total``."""

    pending: int = 0
    running: int = 0
    succeeded: int = 0
    skipped: int = 0
    dead: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All items planned so far."""
        return self.pending + self.running + self.succeeded + self.skipped + self.dead + self.cancelled

    @property
    def finished(self) -> int:
        """Items that need no more work."""
        return self.succeeded + self.skipped + self.dead + self.cancelled

    @property
    def open(self) -> int:
        """Items that still need work."""
        return self.pending + self.running


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created. ``source`` and ``options`` are JSON and hold no secret.

    ``source_id`` names the document that is kept for it, None where its source is not kept by us.
    """

    kind: str
    source: JsonObject
    options: JsonObject
    mode: Mode
    mode_reason: str
    workspace: str = "default"
    provider: str | None = None
    model: str | None = None
    details: JsonObject = field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    budget: Budget | None = None
    source_id: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is stored: ``report`` is the newest one, ``error`` is ``{"class", "message"}`` where it failed.

    ``requested`` stays until it is taken back (``Store.withdraw``): nothing of the run can be claimed meanwhile.
    """

    run_id: str
    kind: str
    workspace: str
    status: RunStatus
    mode: Mode
    mode_reason: str
    provider: str | None
    model: str | None
    source: JsonObject
    options: JsonObject
    details: JsonObject
    report: JsonObject | None
    error: JsonObject | None
    planned: int
    planning_complete: bool
    elapsed_seconds: float
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    fallbacks: Sequence[Fallback] = ()
    requested: RunRequest | None = None
    priority: Priority = Priority.NORMAL
    budget: Budget | None = None
    source_id: str | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the attempts of a run. ``item_seconds`` is the time spent inside items, in seconds."""

    usage: Usage = Usage()
    item_seconds: float = 0.0
    attempts: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run came to.

    ``elapsed_seconds`` is wall time over all sessions of the run. ``speedup`` = ``item_seconds_sum`` /
    ``elapsed_seconds``, measured. ``errors`` counts failed attempts by error class. ``fallbacks`` are those of all
    sessions, in the order they first happened.
    """

    run_id: str
    status: RunStatus
    mode: Mode
    mode_reason: str
    counts: Counts
    usage: Usage
    elapsed_seconds: float
    item_seconds_sum: float
    peak_concurrency: int
    errors: Mapping[str, int]
    error: JsonObject | None = None
    fallbacks: Sequence[Fallback] = ()

    @property
    def speedup(self) -> float:
        """Sum of item times divided by wall time; 0 where nothing was timed."""
        return self.item_seconds_sum / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0
