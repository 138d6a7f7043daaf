"""What the engine asks of others: a store that keeps its rows, and a workflow that knows the domain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from thresher.engine.budget import Spending
from thresher.engine.gate import Permit
from thresher.engine.ledger import Reservation
from thresher.engine.shares import ShareStore
from thresher.engine.work import (
    Claim,
    Completion,
    Counts,
    Fallback,
    ItemSpec,
    JsonObject,
    Mode,
    NewRun,
    Outcome,
    Priority,
    Run,
    RunReport,
    RunRequest,
    RunStatus,
    Totals,
    Usage,
)


class AttemptContext(Protocol):
    """What an item sees of the engine while it is processed; belongs to one attempt, used by one thread."""

    @property
    def run(self) -> Run:
        """The run as it was when this session of it started."""

    def record_usage(self, usage: Usage) -> None:
        """Adds what a request cost. Kept whether the attempt succeeds or fails."""

    def open_bill(self, most: Usage) -> Callable[[Usage], None]:
        """Adds a request that is sent now, takes ``most`` at most, and may end after the attempt has ended.

        Returns what to call, once and from any thread, with what it took: that stands in the attempt in the end.
        """

    def keep_answer(self, raw_answer: str) -> None:
        """Keeps a raw answer, which is stored only where the attempt fails."""

    def attach(self, kind: str, row: JsonObject) -> None:
        """Adds a row that is no result of this item: it is written by whom the store knows for ``kind``.

        In the transaction that ends this attempt, whether the attempt succeeds or fails: no commit of its own.
        """

    def permit(self, resource: str, tokens: float = 0.0, *, waits: bool = True) -> AbstractContextManager[Permit]:
        """A permit for ONE request of about ``tokens`` tokens to a resource key.

        Waits until the limits of the resource let it through, or raises ``NoPermit`` where it ``waits`` not. Never
        held over other work or another permit; the request's own error has to pass through it, and
        ``Permit.settle`` tells it what the reply said.
        """

    def reserve(self, worst: Spending, *, waits: bool = True) -> AbstractContextManager[Reservation]:
        """Sets aside what ONE request may take at most of the run's budget; ``Reservation.settle`` says what it took.

        To be entered before the permit, so that nobody waits for money while holding one. Waits while it does not
        fit and others are under way, or raises ``NoPermit`` where it ``waits`` not.

        Raises:
            BudgetExhausted: it will not fit any more.
        """

    def about_to_wait(self) -> None:
        """To be called before this item waits for somebody else's work (``permit`` and ``reserve`` do by themselves).

        What its worker has left to be written is written first, and others may work meanwhile.
        """

    def raise_if_stopping(self) -> None:
        """Raises ``Interrupted`` where the run is being stopped: call it before anything that costs."""


class Workflow(Protocol):
    """The domain part of a run."""

    @property
    def kind(self) -> str:
        """The name under which runs of this workflow are stored."""

    def plan(self, run: Run) -> Iterable[ItemSpec]:
        """Streams the items of a run.

        Deterministic: the same run yields the same keys in the same sequence, so that planning goes on where
        a killed process left it.

        Raises:
            BadInput: the source cannot be read (to its end); items yielded before stay.
        """

    def process(self, claim: Claim, context: AttemptContext) -> Outcome:
        """Does the work of one item. Called from worker threads, many at a time.

        Raises:
            RetryableError, PermanentError, FatalError: see ``core.errors``; any other exception is a defect
            and counts as permanent for this item.
        """


@runtime_checkable
class BatchWorkflow(Workflow, Protocol):
    """A workflow that can process several items in one go."""

    def batch_obstacle(self, run: Run) -> str | None:
        """Why items of this run are not processed together, as the end of a sentence; None where they can be."""

    def batches(self, claims: Sequence[Claim], run: Run) -> Sequence[Sequence[Claim]]:
        """Cuts claims of a run into groups that go together; every claim is in one of them, in order."""

    def process_batch(
        self, claims: Sequence[Claim], contexts: Sequence[AttemptContext]
    ) -> Sequence[Outcome | Exception]:
        """Does the work of several items; one result per claim, in the same order.

        An exception that is returned concerns one item, one that is raised all of them. A ``RetryableError``
        (other than ``AnswerTruncated``), a ``FatalError`` and ``Interrupted`` mean what they mean for a single item;
        after any other the item is tried once more in a smaller group, then alone.
        """


class Store(ShareStore, Protocol):
    """Keeps runs, items and attempts. Every method is one transaction and safe to call from any thread."""

    def create_run(self, new: NewRun) -> Run:
        """Stores a run as pending, with an identifier of its own that sorts by time of creation."""

    def get_run(self, run_id: str) -> Run:
        """Returns a run.

        Raises:
            NotFound: no run has this identifier.
        """

    def set_run_status(self, run_id: str, status: RunStatus) -> None:
        """Moves a run to a state; the first move to RUNNING sets ``started_at``, every one clears ``error``.

        Raises:
            StateConflict: it was to run, and is cancelled.
        """

    def set_run_mode(self, run_id: str, mode: Mode, reason: str) -> None:
        """Says how a session of a run works, and why."""

    def set_fallbacks(self, run_id: str, fallbacks: Sequence[Fallback]) -> None:
        """Stores all fallbacks of a run so far."""

    def end_run(self, report: RunReport) -> None:
        """Stores status, report, error, elapsed seconds and ``finished_at`` (None where the run has not ended).

        What was asked of the run meanwhile is settled in the same transaction; where it succeeded, wholly or in
        part, there is nothing left to ask.
        """

    def asked(self, run_id: str) -> RunRequest | None:
        """What the run is asked to do, for those who ask before each item; None also where there is no such run."""

    def requested(self, run_id: str) -> RunRequest | None:
        """What the run is asked to do; cheap, it is called several times a second.

        Raises:
            NotFound: no run has this identifier.
        """

    def settle(self, run_id: str) -> RunRequest | None:
        """Does what the run is asked to do, as far as it can be done now; returns what that is.

        Asked to cancel: every pending item is cancelled. Where nobody holds an item of it, the run itself is
        paused or cancelled.
        """

    def add_items(self, run_id: str, specs: Sequence[ItemSpec], planned: int, at: datetime | None = None) -> int:
        """Stores planned items, ignoring keys the run has already; returns how many were new.

        ``at``, the moment of a call, tells it from others: repeated with the same, after its answer was lost, it is
        answered as it was the first time.

        A run that is asked to cancel gets no more of them, and its ``planned`` stays.

        The run's ``planned`` becomes ``planned`` (the length of the plan up to here) unless it is larger
        already: two processes may plan the same run.
        """

    def finish_planning(self, run_id: str, details: JsonObject) -> None:
        """Marks the plan as complete and merges ``details`` into the run's."""

    def claim(self, run_id: str, owner: str, limit: int, lease: float) -> Sequence[Claim]:
        """Leases up to ``limit`` due pending items to ``owner`` for ``lease`` seconds, in order of position.

        No item is ever leased to two owners at once, whatever the number of processes. Nothing is leased of a run
        that is asked to pause or to cancel.
        """

    def begin(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Writes that work on items begins which were lost before (``Claim.losses``); returns those still held.

        What is said twice is as if it was said once.
        """

    def telling_requests(self, run_id: str, tell: Callable[[RunRequest], None]) -> AbstractContextManager[None]:
        """While inside: ``tell`` hears of what the run is asked to do whenever one of its attempts is finished here.

        It is called by the thread that writes, and must be quick.
        """

    def finish(self, completion: Completion) -> bool:
        """Writes the end of an attempt: records, children, attempt, item state, attachments, in one transaction.

        Returns False, with nothing written, where ``completion.claim`` is no longer held (the lease expired and
        another process took the item).
        """

    def finish_all(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Writes the ends of several attempts in one transaction, all of them or none; see ``finish``.

        Raises:
            Exception: one of them cannot be written, or is no longer held.
        """

    def is_written(self, completion: Completion) -> bool:
        """Whether this very end of an attempt is stored: for those who were not told what became of ``finish``."""

    def amend(self, claim: Claim, change: Usage) -> None:
        """Adds to what the stored attempt of a claim has taken (a part of it may be less than nothing)."""

    def release(self, claims: Sequence[Claim]) -> None:
        """Gives back claims that were never started, as if they had not been claimed."""

    def release_all(self, run_id: str, owner: str, but: Collection[int]) -> None:
        """Gives back all items of a run that ``owner`` holds, but those with these identifiers, as ``release`` does."""

    def renew(self, owner: str, lease: float) -> int:
        """Extends all leases of ``owner`` to ``lease`` seconds from now, its share of a budget too.

        Returns how many items it holds.
        """

    def recover(self, run_id: str, is_dead: Callable[[str], bool], max_losses: int, *, but: str = "") -> int:
        """Puts items back to pending whose lease has expired or whose owner ``is_dead``; returns how many.

        Those of the owner ``but`` stay with it: who asks for it itself is alive, however late it renews its leases.
        Each whose work may have begun gets an attempt row LOST and one loss more. At the ``max_losses``-th it is dead
        with class ``WorkerLost``, if its work is known to have begun.
        What lost owners held of the run's budget counts as spent: their requests may have been billed.
        """

    def counts(self, run_id: str) -> Counts:
        """Counts the run's items by state."""

    def totals(self, run_id: str) -> Totals:
        """Sums the run's attempts."""

    def next_due(self, run_id: str) -> datetime | None:
        """When the next pending item is due or the next lease expires; None where nothing is open."""


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run that a server is to work on."""

    run_id: str
    priority: Priority
    queued_at: datetime


class RunQueue(Protocol):
    """The runs that servers are to work on, shared by all of them. Every method is one transaction."""

    def take(self, owner: str, lease: float, full: Collection[Priority], in_hand: Collection[str]) -> QueuedRun | None:
        """Leases the next run to ``owner`` for ``lease`` seconds: by priority, then as they were queued.

        Not one of the priorities in ``full``, none that is asked to pause or to cancel, never one that is leased, and
        none that the owner has ``in_hand``, though its lease be over. None where there is no such run.
        """

    def renew(self, owner: str, lease: float, in_hand: Collection[str]) -> int:
        """Extends the leases of ``owner`` on these runs to ``lease`` seconds from now; returns how many there are.

        Another one that is leased to it was taken without its knowledge (the answer was lost), and is free in time.
        """

    def recover(self, is_dead: Callable[[str], bool]) -> None:
        """Frees the runs of owners that are dead, and removes those free ones of which nothing is to be done."""

    def put_back(self, taken: QueuedRun, owner: str) -> None:
        """Gives a run back that is to go on with another server; it is pending until then."""

    def remove(self, taken: QueuedRun, owner: str) -> None:
        """Takes a run out of the queue that is done with; where it was queued anew meanwhile, it is free again."""
