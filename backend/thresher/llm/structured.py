"""The answer ladder: from a model's words to a value of the wanted shape, each rung visible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import Generic, TypeVar

from pydantic import ValidationError

from thresher.core.errors import (
    AnswerTruncated,
    AuthenticationFailed,
    ModelUnusable,
    PermanentLLMError,
    QuotaExhausted,
    RetryableError,
    TransientLLMError,
    UnusableAnswer,
)
from thresher.engine.ledger import Reservation
from thresher.engine.ports import AttemptContext
from thresher.engine.work import Usage
from thresher.llm.client import ModelClient, ModelReply, ModelRequest
from thresher.llm.hedging import Hedge
from thresher.llm.repair import repairs
from thresher.llm.spending import prompt_bytes, spending, worst_case

T = TypeVar("T")

_SHOWN_PROBLEM_CHARACTERS = 1_000
_SENT_AND_FAILED = (RetryableError, PermanentLLMError, AuthenticationFailed, QuotaExhausted, ModelUnusable)
_NOTHING = "(no answer)"  # chat templates want an assistant's turn between two of the user's


class Rung(StrEnum):
    """How far up the ladder an answer had to climb."""

    STRICT = "strict"
    REPAIRED = "repaired"
    RE_ASKED = "re-asked"


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A valid answer. ``text`` is what the model wrote, before any repair; ``usage`` covers all its requests."""

    value: T
    rung: Rung
    text: str
    model: str
    usage: Usage


class AnswerLadder:
    """Asks, repairs, asks once more, gives up. One serves all threads; with ``hedge``, late requests are sent twice.

    Without ``re_asks`` it gives up at once: for who has a better way to ask again.
    """

    def __init__(self, hedge: Hedge | None = None, *, re_asks: bool = True) -> None:
        self._hedge = hedge
        self._re_asks = re_asks

    def asking_once(self) -> AnswerLadder:
        """The same without the second question."""
        return AnswerLadder(self._hedge, re_asks=False)

    def ask(
        self, client: ModelClient, request: ModelRequest, validate: Callable[[str], T], context: AttemptContext
    ) -> Answer[T]:
        """Returns the first answer that ``validate`` (JSON text to value, ``ValueError`` if unfit) accepts.

        Usage of every request reaches ``context`` at once, also where it failed.

        Raises:
            AnswerTruncated: cut by its length; the raw answer is kept. A smaller subtree may do.
            UnusableAnswer: unfit after the re-ask; the raw answer is kept.
            PermanentLLMError: the model or its filter declined.
            Interrupted, and what ``client.complete`` raises.
        """
        first = self._asked(client, request, context)
        accepted = _accepted(first, request, validate, context)
        if isinstance(accepted, _Accepted):
            return Answer(accepted.value, accepted.rung, first.text, first.model, first.usage)
        if not self._re_asks:
            raise UnusableAnswer(f"{first.model} gave no usable answer: {accepted.sentence}.")
        again = self._asked(client, _re_ask(request, first, accepted), context)
        second = _accepted(again, request, validate, context)
        if isinstance(second, _Accepted):
            return Answer(second.value, Rung.RE_ASKED, again.text, again.model, first.usage + again.usage)
        raise UnusableAnswer(f"{again.model} gave no usable answer, asked twice: {second.sentence}.")

    def _asked(self, client: ModelClient, request: ModelRequest, context: AttemptContext) -> ModelReply:
        """One request, its usage recorded whatever becomes of it."""
        context.raise_if_stopping()
        reply = self._sent(client, request, context)
        context.keep_answer(reply.text or reply.refusal or "")
        if reply.refusal:
            raise PermanentLLMError(f"{reply.model} declined to answer: {_shortened(reply.refusal, 200)}")
        if reply.finish_reason == "content_filter":
            raise PermanentLLMError(f"The provider's content filter stopped the answer of {reply.model}.")
        return reply

    def _sent(self, client: ModelClient, request: ModelRequest, context: AttemptContext) -> ModelReply:
        """The reply. A permit is held for each request alone, and learns from its end.

        What a request may take at most is set aside before it waits for its permit.
        """
        resource = client.resource
        if resource is None:
            return _completed(client, request, Reservation(0), context.record_usage)
        worst = worst_case(request, client.price)

        def ask(began: Callable[[], None], waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
            with (
                context.reserve(worst, waits=waits) as reserved,
                context.permit(resource, request.estimated_tokens, waits=waits) as permit,
            ):
                began()
                record: Callable[[Usage], None] = context.record_usage
                if self._hedge is not None:  # it may end after the attempt
                    record = context.open_bill(Usage(requests=1) + _unsettled(client, request))
                reply = _completed(client, request, reserved, record)
                permit.settle(reply.limits, reply.usage.prompt_tokens + reply.usage.completion_tokens)
                return reply

        if self._hedge is None:
            return ask(_nobody, True)  # noqa: FBT003 # see hedging.Ask
        return self._hedge.send(ask)

    def recall(
        self, text: str, request: ModelRequest, validate: Callable[[str], T], origin: tuple[str, Usage]
    ) -> Answer[T] | None:
        """An answer that was accepted earlier, read anew; None where ``validate`` no longer takes it.

        ``origin``: the model, and what it counts as to get the answer this time.
        """
        rung = Rung.STRICT
        for candidate in chain([text], repairs(text, request.schema.schema)):
            try:
                return Answer(validate(candidate), rung, text, *origin)
            except ValueError:
                rung = Rung.REPAIRED
        return None


def _completed(
    client: ModelClient, request: ModelRequest, reserved: Reservation, record: Callable[[Usage], None]
) -> ModelReply:
    """The reply, what it took recorded whatever becomes of it.

    A request that was sent and not answered, or of whose tokens nothing was told, is held to have taken all that was
    set aside for it.
    """
    try:
        reply = client.complete(request)
    except _SENT_AND_FAILED as error:
        if not _may_be_billed(error):
            record(Usage(requests=1))
            raise
        reserved.settle(None)
        record(Usage(requests=1) + _unsettled(client, request))
        raise
    took = spending(reply.usage)
    reserved.settle(took)
    asked_with = prompt_bytes(request) if reply.usage.prompt_tokens else 0
    usage = reply.usage.for_prompt_of(asked_with)
    record(usage if took is not None or client.resource is None else usage + _unsettled(client, request))
    return reply


def _may_be_billed(error: Exception) -> bool:
    return isinstance(error, TransientLLMError) and error.may_be_billed


def _unsettled(client: ModelClient, request: ModelRequest) -> Usage:
    """What a request may have taken of which nobody told anything."""
    worst = worst_case(request, client.price)
    if worst.cost_usd is None:
        return Usage(cost_usd=None, unsettled_tokens=worst.tokens)
    return Usage(unsettled_tokens=worst.tokens, unsettled_cost_usd=worst.cost_usd)


def _nobody() -> None:
    """Nobody wants to know when a request begins."""


@dataclass(frozen=True, slots=True)
class _Accepted(Generic[T]):
    value: T
    rung: Rung


@dataclass(frozen=True, slots=True)
class _Rejected:
    sentence: str


def _accepted(
    reply: ModelReply, request: ModelRequest, validate: Callable[[str], T], context: AttemptContext
) -> _Accepted[T] | _Rejected:
    """The first two rungs. An answer that was cut by its length but is whole all the same counts."""
    try:
        return _Accepted(validate(reply.text), Rung.STRICT)
    except ValueError as error:
        rejected = _Rejected(_problem(error) if reply.text.strip() else "the answer is empty")
    if reply.finish_reason == "length":
        raise AnswerTruncated(
            f"The answer of {reply.model} was cut at {request.max_output_tokens} tokens: "
            "raise MAX_OUTPUT_TOKENS or choose smaller subtrees."
        )
    for repaired in repairs(reply.text, request.schema.schema):
        try:
            return _Accepted(validate(repaired), Rung.REPAIRED)
        except ValueError:
            continue
    context.raise_if_stopping()
    return rejected


def _re_ask(request: ModelRequest, reply: ModelReply, rejected: _Rejected) -> ModelRequest:
    problem = (
        f"Your answer does not fit: {rejected.sentence}. "
        "Answer again with the corrected JSON only, with nothing before or after it."
    )
    return replace(request, history=(("assistant", reply.text or _NOTHING), ("user", problem)))


def _problem(error: ValueError) -> str:
    """What was wrong, place by place and without the values, which may be personal data."""
    if isinstance(error, ValidationError):
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        sentences = (f"{'/'.join(map(str, problem['loc'])) or 'the answer'}: {problem['msg']}" for problem in problems)
        return _shortened("; ".join(sentences), _SHOWN_PROBLEM_CHARACTERS)
    return _shortened(str(error), _SHOWN_PROBLEM_CHARACTERS)


def _shortened(text: str, characters: int) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= characters else line[:characters] + "..."
