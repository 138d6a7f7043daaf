"""One try at an item: process it, decide what its end means, write that down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Lock

from thresher.core.correlation import Correlation, correlated
from thresher.core.errors import (
    BudgetExhausted,
    DatabaseUnavailable,
    FatalError,
    Postponed,
    StorageFailed,
    ThresherError,
    own_words,
)
from thresher.core.logging import DEBUG, get_logger, is_logged
from thresher.engine.bill import Bill
from thresher.engine.budget import Spending
from thresher.engine.control import Interrupted, RunControl
from thresher.engine.gate import Permit, Resources, Turn
from thresher.engine.ledger import Ledger, Reservation
from thresher.engine.patience import patiently
from thresher.engine.ports import Store, Workflow
from thresher.engine.retry import RetryPolicy
from thresher.engine.work import (
    AttemptRecord,
    AttemptStatus,
    Claim,
    Completion,
    ItemStatus,
    JsonObject,
    Outcome,
    Run,
    Usage,
)

log = get_logger(__name__)

LONGEST_MESSAGE = 2_000  # characters of an error message that are kept
LONGEST_ANSWER = 200_000  # characters of a raw answer that are kept
SUSPECT = 3  # losses from which an item may be what ends its process: of these a session processes one at a time
_IN_COMPANY = nullcontext()


class Context:
    """What an item sees of the engine (see ``ports.AttemptContext``)."""

    def __init__(  # noqa: PLR0913 # what an attempt needs, each by its name
        self,
        run: Run,
        control: RunControl,
        resources: Resources,
        ledger: Ledger | None = None,
        *,
        is_fresh: bool = True,
        amend: Callable[[Usage], None] = lambda _: None,
        before_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """``is_fresh`` is False where the item has failed before (see ``gate.Turn``). ``amend``: see ``Bill``.

        ``before_wait`` is called whenever the item is about to wait for somebody: what was left is written before that.
        """
        self.run = run
        self.bill = Bill(amend)
        self.raw_answer: str | None = None
        self.attachments: dict[str, list[JsonObject]] = {}
        self.has_asked = False  # somebody, under a permit
        self._control = control
        self._resources = resources
        self._ledger = ledger or Ledger()
        self.about_to_wait = before_wait
        self._turn = Turn(run.run_id, run.priority, is_fresh=is_fresh)

    def record_usage(self, usage: Usage) -> None:
        """Adds what a request cost."""
        self.bill.add(usage)

    def open_bill(self, most: Usage) -> Callable[[Usage], None]:
        """Adds a request that may end after the attempt; returns what to call with what it took."""
        return self.bill.open(most)

    def keep_answer(self, raw_answer: str) -> None:
        """Keeps a raw answer for the case that the attempt fails."""
        self.raw_answer = storable(raw_answer[:LONGEST_ANSWER])

    def attach(self, kind: str, row: JsonObject) -> None:
        """Adds a row of another table, written with the end of this attempt."""
        self.attachments.setdefault(kind, []).append(row)

    def permit(self, resource: str, tokens: float = 0.0, *, waits: bool = True) -> AbstractContextManager[Permit]:
        """A permit for ONE request to a resource; never held over other work or another permit."""
        self.about_to_wait()
        self.has_asked = True
        turn = self._turn if waits else replace(self._turn, waits=False)
        return self._resources.gate(resource).permit(self._control.stopping.is_set, tokens, turn)

    def reserve(self, worst: Spending, *, waits: bool = True) -> AbstractContextManager[Reservation]:
        """Sets aside what ONE request may take at most of the run's budget."""
        self.about_to_wait()
        return self._ledger.reserve(worst, self._control.stopping.is_set, waits=waits)

    def raise_if_stopping(self) -> None:
        """Raises ``Interrupted`` where the run is being stopped."""
        if self._control.stopping.is_set():
            raise Interrupted("The run is being stopped.")


@dataclass(frozen=True, slots=True)
class Later:
    """When items whose attempts end now are tried again."""

    policy: RetryPolicy
    now: datetime

    def of(self, claim: Claim, error: Exception) -> datetime | None:
        """The moment, None where there is no further try."""
        delay = self.policy.delay(error, claim.failures + 1, claim.attempt)
        return None if delay is None else self.now + timedelta(seconds=delay)


@dataclass(frozen=True, slots=True)
class Unwritten:
    """The end of an attempt that nothing is lost with: it asked nobody for anything, and would come to the same."""

    completion: Completion


class Attempts:
    """Makes attempts, many at a time, and knows which are in hand."""

    def __init__(  # noqa: PLR0913 # what a session has, each by its name
        self,
        store: Store,
        workflow: Workflow,
        policy: RetryPolicy,
        control: RunControl,
        resources: Resources,
        *,
        ledger: Ledger,
        before_wait: Callable[[], Callable[[], None]] = lambda: _nothing,
    ) -> None:
        """``before_wait`` is asked in the thread of an attempt for that of its ``Context``."""
        self.peak = 0
        self._before_wait = before_wait
        self._store = store
        self._workflow = workflow
        self._policy = policy
        self._control = control
        self._resources = resources
        self._ledger = ledger
        self._one_suspect = Lock()  # held while one is processed, so that it is known which one ended the process
        self._is_over = False
        self._lock = Lock()  # protects in_hand and peak
        self.in_hand = 0  # attempts that have begun and not ended

    def make(self, claim: Claim, run: Run) -> Completion | Unwritten | None:
        """Processes one claim and writes its end, unless that may wait; None where the run stops or the lease was lost.

        Raises:
            ThresherError: the store cannot be written; the lease stays until it expires.
        """
        with self._one_suspect if claim.losses >= SUSPECT else _IN_COMPANY:
            if self.given_back([claim]) or not self.begun([claim]):
                return None
            if is_logged(DEBUG):
                log.debug("item started", stage=claim.stage, failures=claim.failures)
            with self.counted(1):
                return self._process(claim, run)

    def begun(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Those that are still held; of items that were lost before it is written that work on them begins."""
        lost_before = [claim for claim in claims if claim.losses]
        if not lost_before:
            return claims
        held = {claim.item_id for claim in self._store.begin(lost_before)}
        return [claim for claim in claims if not claim.losses or claim.item_id in held]

    def given_back(self, claims: Sequence[Claim]) -> bool:
        """Whether the run is being stopped; then claims that have not begun are pending again."""
        if not self._control.stopping.is_set():
            return False
        self._store.release(claims)
        return True

    def raise_if_stopping(self) -> None:
        """Raises ``Interrupted`` where the run is being stopped."""
        if self._control.stopping.is_set():
            raise Interrupted("The run is being stopped.")

    @contextmanager
    def counted(self, items: int) -> Iterator[None]:
        """While inside, so many more are in hand."""
        with self._lock:
            self.in_hand += items
            self.peak = max(self.peak, self.in_hand)
        try:
            yield
        finally:
            with self._lock:
                self.in_hand -= items

    def context(self, claim: Claim, run: Run) -> Context:
        """What a new attempt sees of the engine."""
        return Context(
            run,
            self._control,
            self._resources,
            self._ledger,
            is_fresh=claim.failures == 0,
            amend=partial(self._amend, claim),
            before_wait=self._before_wait(),
        )

    def rest(self) -> None:
        """Leaves to other sessions what is held of the budget, where no attempt is under way."""
        if not self.in_hand:
            self._ledger.give_back()

    def close(self) -> None:
        """After the last attempt: gives back what is held of the budget; no attempt is amended any more."""
        self._is_over = True
        self._ledger.close()

    def _amend(self, claim: Claim, change: Usage) -> None:
        """What a request took that ended after its attempt; until it is written its most stands there."""
        if self._is_over:
            return
        try:
            self._store.amend(claim, change)
        except ThresherError as error:
            log.warning("usage not amended", error=type(error).__name__, reason=own_words(error))

    def later(self, *, together: bool = False) -> Later:
        """When attempts that end now are repeated; ``together``: all those of one class at the same moment."""
        return Later(self._policy.drawn() if together else self._policy, datetime.now(UTC))

    def _process(self, claim: Claim, run: Run) -> Completion | Unwritten | None:
        context = self.context(claim, run)
        started_at, started = datetime.now(UTC), time.monotonic()
        result: Outcome | Exception
        try:
            result = self._workflow.process(claim, context)
        except Exception as error:  # noqa: BLE001 # its class decides, below
            result = error
        completion = self.end(claim, context, result, (started_at, time.monotonic() - started), self.later())
        if not context.has_asked and _may_wait(completion):
            return Unwritten(completion)
        return self.write(completion, context)

    def write_all(self, completions: Sequence[Completion]) -> Iterator[Completion | None]:
        """Writes ends of attempts that could wait, in one transaction; None for those whose lease was lost."""
        for completion, written in zip(completions, self._finish_all(completions), strict=True):
            if written is None:
                _lease_lost(completion)
            yield written

    def end(  # an attempt is all of that
        self,
        claim: Claim,
        context: Context,
        result: Outcome | Exception,
        when: tuple[datetime, float],
        later: Later,
    ) -> Completion:
        """What an attempt comes to that began at ``when[0]`` and took ``when[1]`` seconds; to be written."""
        if isinstance(result, Exception):
            return self._failed(claim, result, context, when, later)
        record = AttemptRecord(claim.attempt, AttemptStatus.SUCCEEDED, *when, context.bill.close())
        status = ItemStatus.SUCCEEDED if result.skip_reason is None else ItemStatus.SKIPPED
        return Completion(claim, status, record, result, attachments=context.attachments)

    def write(self, completion: Completion, context: Context) -> Completion | None:
        """Writes the end of an attempt; None where the lease was lost, and nothing was written."""
        written = self._finish(completion)
        if written is None:
            _lease_lost(completion)
        else:
            context.bill.stored()
        return written

    def _failed(  # same
        self, claim: Claim, error: Exception, context: Context, when: tuple[datetime, float], later: Later
    ) -> Completion:
        """What an error means for its item: one more try, later, or death."""
        interrupted, fatal = isinstance(error, Interrupted | BudgetExhausted), isinstance(error, FatalError)
        if fatal:
            self._control.fail(error)
        elif not isinstance(error, ThresherError):
            log.error("item failed with a defect", error=type(error).__name__, exc_info=error)
        record = AttemptRecord(
            number=claim.attempt,
            status=AttemptStatus.INTERRUPTED if interrupted else AttemptStatus.FAILED,
            started_at=when[0],
            duration=when[1],
            usage=context.bill.close(),
            error_class=type(error).__name__,
            error_message=storable(str(error)[:LONGEST_MESSAGE]) or type(error).__name__,
            raw_answer=context.raw_answer,
        )
        pending = Completion(claim, ItemStatus.PENDING, record, attachments=context.attachments)
        return pending if interrupted or fatal else _retried_or_dead(pending, error, later)

    def _finish_all(self, completions: Sequence[Completion]) -> Sequence[Completion | None]:
        """Where they cannot be written together each gets an end of its own."""
        try:
            are_written = self._store.finish_all(completions)
        except DatabaseUnavailable:
            are_written = [patiently()(self._written_again, completion) for completion in completions]
        except StorageFailed:
            raise
        except Exception:  # noqa: BLE001 # that of one of them, which gets it again
            return [self._finish(completion) for completion in completions]
        return [one if is_written else None for one, is_written in zip(completions, are_written, strict=True)]

    def _finish(self, completion: Completion) -> Completion | None:
        """Writes the end of an attempt, and returns it as it was written; None where the lease was lost.

        What cannot be stored as it is makes its item dead, with the reason.
        """
        try:
            return completion if self._write(completion) else None
        except (DatabaseUnavailable, StorageFailed):
            raise
        except Exception as error:
            with _place(completion.claim):
                log.exception("outcome not stored")
            completion = _unstorable(completion, error)
            return completion if self._write(completion) else None

    def _write(self, completion: Completion) -> bool:
        """Waits out a database that is away for a while: a paid answer is worth the patience."""
        try:
            return self._store.finish(completion)
        except DatabaseUnavailable:
            return patiently()(self._written_again, completion)

    def _written_again(self, completion: Completion) -> bool:
        """It may have been written before, with the answer lost: then the lease is over, and all is well."""
        return self._store.finish(completion) or self._store.is_written(completion)


def _may_wait(completion: Completion) -> bool:
    """Whether the end of an attempt may be written a moment later, with others.

    Should the process be killed before that the item is processed again, which costs nothing: it was not asked about.
    """
    is_done = completion.status in _DONE and not completion.outcome.children
    return is_done and not completion.attempt.usage.requests and not completion.claim.losses


def _nothing() -> None:
    """Nothing is left to be written."""


_DONE = frozenset({ItemStatus.SUCCEEDED, ItemStatus.SKIPPED})


def _place(claim: Claim) -> AbstractContextManager[None]:
    """Its numbers are in what is logged meanwhile."""
    return correlated(Correlation(claim.run_id, item=claim.item_id, attempt=claim.attempt))


def _lease_lost(completion: Completion) -> None:
    with _place(completion.claim):
        log.warning("lease lost", ms=round(completion.attempt.duration * 1000))


def _retried_or_dead(pending: Completion, error: Exception, later: Later) -> Completion:
    counts, retry_at = not isinstance(error, Postponed), later.of(pending.claim, error)
    failures = pending.claim.failures + counts
    said = {"error": type(error).__name__, "reason": own_words(error), "failures": failures}
    if retry_at is None:
        log.info("item dead", **said)
        return replace(pending, status=ItemStatus.DEAD, counts_as_failure=counts)
    log.info("item retried", delay_s=round((retry_at - later.now).total_seconds(), 3), **said)
    return replace(pending, retry_at=retry_at, counts_as_failure=counts)


def storable(text: str) -> str:
    """Text that every database takes: no NUL, no lone surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode(errors="replace").decode()
    return text


def _unstorable(completion: Completion, error: Exception) -> Completion:
    done = completion.attempt
    record = AttemptRecord(
        number=done.number,
        status=AttemptStatus.FAILED,
        started_at=done.started_at,
        duration=done.duration,
        usage=done.usage,
        error_class=type(error).__name__,
        error_message=storable(str(error)[:LONGEST_MESSAGE]),
        raw_answer=done.raw_answer,
    )
    return Completion(completion.claim, ItemStatus.DEAD, record, counts_as_failure=True)
