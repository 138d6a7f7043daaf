"""A group of items in one go: asked about together, what is left once more, then each alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from thresher.core.correlation import Correlation, correlated
from thresher.core.errors import AnswerTruncated, FatalError, RetryableError, ThresherError
from thresher.core.logging import get_logger
from thresher.engine.attempt import Attempts, Context, Later
from thresher.engine.budget import Spending
from thresher.engine.control import Interrupted
from thresher.engine.gate import Permit
from thresher.engine.ledger import Reservation
from thresher.engine.ports import AttemptContext, BatchWorkflow
from thresher.engine.work import Claim, Completion, JsonObject, Outcome, Run, Usage

log = get_logger(__name__)

Ended = tuple[Claim, Completion | None]


@dataclass(slots=True, eq=False)
class _Try:
    """One item's attempt. ``seconds``: its share of the time that its worker has spent."""

    claim: Claim
    context: Context
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    result: Outcome | Exception = field(default_factory=Outcome)
    batch: int | None = None

    @property
    def place(self) -> Correlation:
        """Where it stands, for logs."""
        return Correlation(self.claim.run_id, self.batch, self.claim.item_id, self.claim.attempt)

    @property
    def is_decided(self) -> bool:
        """False where a smaller group, or this item alone, may do better at once.

        What says nothing of the group (a server that is away, a limit, a wrong key, a stop) decides like for any item.
        """
        error = self.result
        if isinstance(error, AnswerTruncated):
            return False
        return isinstance(error, Outcome | RetryableError | FatalError | Interrupted)


class GroupAttempts:
    """Makes the attempts of a group. Every item keeps an attempt, a completion and an error of its own.

    ``fell_back`` is told the reason for each item that is processed alone because no group answered it.
    """

    def __init__(
        self, attempts: Attempts, workflow: BatchWorkflow, fell_back: Callable[[Claim, Exception], None]
    ) -> None:
        self._attempts = attempts
        self._workflow = workflow
        self._fell_back = fell_back
        self._numbers = itertools.count(1)  # of the groups that were asked about

    def make(self, claims: Sequence[Claim], run: Run) -> Iterator[Ended]:
        """Processes the claims; yields each as soon as its end is stored, None where it was given back.

        Raises: see ``Attempts.make``.
        """
        if self._attempts.given_back(claims):
            yield from ((claim, None) for claim in claims)
            return
        held = self._attempts.begun(claims)
        if len(held) < len(claims):
            yield from ((claim, None) for claim in claims if claim not in held)
        with self._attempts.counted(len(held)):
            tries = [_Try(claim, self._attempts.context(claim, run)) for claim in held]
            left = yield from self._round([tries])
            left = yield from self._round(_smaller(left, len(tries)))
            for each in left:
                yield self._alone(each)

    def _round(self, groups: Sequence[list[_Try]]) -> Generator[Ended, None, list[_Try]]:
        """Asks about each group; yields what that decides and returns the rest."""
        left: list[_Try] = []
        for group in groups:
            if len(group) > 1:
                number = next(self._numbers)
                self._ask(group, number)
                later = self._attempts.later(together=True)
                for each in group:
                    each.batch = number
                decided = [each for each in group if each.is_decided and not self._would_die(each, later)]
                for each in decided:
                    yield self._ended(each, later)
                group = [each for each in group if each not in decided]  # noqa: PLW2901 # what is left of it
            left.extend(group)
        return left

    def _would_die(self, each: _Try, later: Later) -> bool:
        """No item dies of an error that may be another's: without a further try it is processed alone."""
        return isinstance(each.result, RetryableError) and later.of(each.claim, each.result) is None

    def _ask(self, group: list[_Try], number: int) -> None:
        """Asks about a group; ``number`` is its own within the session."""
        started = time.monotonic()
        results: Sequence[Outcome | Exception]
        try:
            self._attempts.raise_if_stopping()
            with correlated(Correlation(group[0].claim.run_id, batch=number)):
                results = self._workflow.process_batch([each.claim for each in group], [each.context for each in group])
            if len(results) != len(group):
                raise RuntimeError(f"{len(results)} results for {len(group)} items")  # noqa: TRY301 # a defect like others
        except Exception as error:  # its class decides
            if not isinstance(error, ThresherError):
                log.exception("group failed with a defect", error=type(error).__name__, items=len(group))
            results = [error] * len(group)
        share = (time.monotonic() - started) / len(group)
        for each, result in zip(group, results, strict=True):
            each.seconds += share
            each.result = result

    def _alone(self, each: _Try) -> Ended:
        reason, started = each.result, time.monotonic()
        try:
            self._attempts.raise_if_stopping()
            if isinstance(reason, Exception):
                self._fell_back(each.claim, reason)
            with correlated(each.place):
                each.result = self._workflow.process(each.claim, each.context)
        except Exception as error:  # noqa: BLE001 # its class decides
            each.result = error
        each.seconds += time.monotonic() - started
        return self._ended(each, self._attempts.later())

    def _ended(self, each: _Try, later: Later) -> Ended:
        when = (each.started_at, each.seconds)
        with correlated(each.place):
            completion = self._attempts.end(each.claim, each.context, each.result, when, later)
            return each.claim, self._attempts.write(completion, each.context)


def _smaller(left: list[_Try], size: int) -> list[list[_Try]]:
    """Cuts what a group of ``size`` left open: one group where some were answered, else two halves."""
    half = (len(left) + 1) // 2
    return [left] if len(left) < size else [left[:half], left[half:]]


class JointContext:
    """What a group sees of the engine: one request serves all, and each item's attempt gets its share of the cost.

    ``weights`` (the items' sizes) divide tokens and cost; the request itself is counted once, on the first item.
    """

    def __init__(self, contexts: Sequence[AttemptContext], weights: Sequence[int]) -> None:
        self.raw_answer: str | None = None
        self._contexts = contexts
        self._weights = weights

    @property
    def run(self) -> Run:
        """The run."""
        return self._contexts[0].run

    def record_usage(self, usage: Usage) -> None:
        """Divides what a request cost."""
        for context, part in zip(self._contexts, shares(usage, self._weights), strict=True):
            context.record_usage(part)

    def open_bill(self, most: Usage) -> Callable[[Usage], None]:
        """Divides what a request may cost at most, and what it took when that is known."""
        bills = [
            context.open_bill(part) for context, part in zip(self._contexts, shares(most, self._weights), strict=True)
        ]

        def settle(took: Usage) -> None:
            for bill, part in zip(bills, shares(took, self._weights), strict=True):
                bill(part)

        return settle

    def keep_answer(self, raw_answer: str) -> None:
        """Keeps the whole answer for each item that fails."""
        self.raw_answer = raw_answer
        for context in self._contexts:
            context.keep_answer(raw_answer)

    def attach(self, kind: str, row: JsonObject) -> None:
        """Adds a row of another table, written with the end of the first item's attempt."""
        self._contexts[0].attach(kind, row)

    def permit(self, resource: str, tokens: float = 0.0, *, waits: bool = True) -> AbstractContextManager[Permit]:
        """A permit for the one request."""
        return self._contexts[0].permit(resource, tokens, waits=waits)

    def reserve(self, worst: Spending, *, waits: bool = True) -> AbstractContextManager[Reservation]:
        """Sets aside what the one request may take."""
        return self._contexts[0].reserve(worst, waits=waits)

    def about_to_wait(self) -> None:
        """The items wait for somebody else's work."""
        self._contexts[0].about_to_wait()

    def raise_if_stopping(self) -> None:
        """Raises ``Interrupted`` where the run is being stopped."""
        self._contexts[0].raise_if_stopping()


def shares(usage: Usage, weights: Sequence[int]) -> list[Usage]:
    """Divides a usage by weight; the parts add up to the whole exactly. What is not divisible goes to the first."""
    total = sum(weights)
    steps = weights if total else [1] * len(weights)
    total = total or len(weights)
    parts, before = list[Usage](), 0
    for number, weight in enumerate(steps):
        after = before + weight
        prompt, completion, cached = (
            tokens * after // total - tokens * before // total
            for tokens in (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        )
        cost = None if usage.cost_usd is None else usage.cost_usd * weight / total
        first = number == 0
        bytes_sent = usage.prompt_bytes * after // total - usage.prompt_bytes * before // total
        hits = usage.cache_hits * first
        unsettled = (usage.unsettled_tokens * first, usage.unsettled_cost_usd * first)
        parts.append(Usage(usage.requests * first, prompt, completion, cached, cost, hits, bytes_sent, *unsettled))
        before = after
    return parts
