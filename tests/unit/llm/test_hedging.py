from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from threading import Event, Thread, current_thread
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import BaseModel

from thresher.core.errors import TransientLLMError
from thresher.engine.attempt import Context
from thresher.engine.budget import Budget
from thresher.engine.control import RunControl
from thresher.engine.gate import NoPermit, Resources
from thresher.engine.ledger import Ledger
from thresher.engine.work import Run, Usage
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.hedging import SAMPLES_NEEDED, Hedge
from thresher.llm.schema import ResponseSchema
from thresher.llm.spending import worst_case
from thresher.llm.structured import AnswerLadder

COST = Usage(requests=1, prompt_tokens=100, completion_tokens=20, cost_usd=0.25)


class Word(BaseModel):
    word: str


REQUEST = ModelRequest("S", "<A/>", "<A/>", ResponseSchema.of_model(Word), 100)
FIRST, SECOND = (ModelReply(text, "stop", "m", COST) for text in ("first", "second"))


def quick(began: Callable[[], None], _waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
    began()
    return FIRST


@pytest.fixture
def hedge() -> Hedge:
    """One that knows how long requests take: next to nothing."""
    hedge = Hedge()
    for _ in range(SAMPLES_NEEDED):
        assert hedge.send(quick) == FIRST
    assert hedge.sent == 0
    return hedge


class Slow:
    """A first request that comes when it is told to, and a second."""

    def __init__(self, second: ModelReply | Exception, first: ModelReply | Exception = FIRST) -> None:
        self.outcomes = {True: first, False: second}
        self.first_may_end, self.second_came = Event(), Event()

    def __call__(self, began: Callable[[], None], waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
        if not isinstance(self.outcomes[waits], NoPermit):
            began()
        if waits:
            assert self.first_may_end.wait(10)
        else:
            self.second_came.set()
        outcome = self.outcomes[waits]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class BehindSecond(Slow):
    """The first request ends when it is known what came of the second."""

    def __init__(self, second: ModelReply | Exception, first: ModelReply | Exception = FIRST) -> None:
        super().__init__(second, first)
        self._second = SimpleQueue[Thread]()

    def __call__(self, began: Callable[[], None], waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
        if waits:
            began()
            self._second.get(timeout=30).join(30)
            self.first_may_end.set()
        else:
            self._second.put(current_thread())
        return super().__call__(began, waits)


def test_before_anything_is_known_nothing_is_sent_twice() -> None:
    hedge, slow = Hedge(), Slow(SECOND)
    slow.first_may_end.set()
    assert hedge.send(slow) == FIRST
    assert not slow.second_came.is_set()


def test_the_first_answer_is_taken(hedge: Hedge) -> None:
    slow = Slow(SECOND)
    assert hedge.send(slow) == SECOND
    slow.first_may_end.set()
    assert hedge.sent == 1


def test_a_second_request_that_fails_leaves_the_first(hedge: Hedge) -> None:
    assert hedge.send(BehindSecond(TransientLLMError("500"))) == FIRST
    assert hedge.sent == 1


def test_where_no_second_one_may_be_sent_the_first_is_waited_for(hedge: Hedge) -> None:
    assert hedge.send(BehindSecond(NoPermit("full"))) == FIRST
    assert hedge.sent == 0


def test_where_both_fail_the_first_error_counts(hedge: Hedge) -> None:
    slow = BehindSecond(TransientLLMError("second"), TransientLLMError("first"))
    with pytest.raises(TransientLLMError, match="second"):
        hedge.send(slow)


def test_an_error_of_a_request_that_is_not_late_is_raised(hedge: Hedge) -> None:
    def ask(_began: Callable[[], None], _waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
        raise TransientLLMError("at once")

    with pytest.raises(TransientLLMError, match="at once"):
        hedge.send(ask)


class Twice:
    """A client whose first request comes when it is told to, and whose second is answered at once."""

    provider, model, leaves_machine, resource, price = "twice", "m", False, "twice", None

    def __init__(self, first: ModelReply | Exception) -> None:
        self._first, self._asked = first, count()
        self.first_may_end = Event()

    def complete(self, _request: ModelRequest) -> ModelReply:
        if next(self._asked):
            return said("second")
        assert self.first_may_end.wait(10)
        if isinstance(self._first, Exception):
            raise self._first
        return self._first

    def check(self) -> None: ...

    def close(self) -> None: ...


def said(text: str) -> ModelReply:
    return ModelReply(f'"{text}"', "stop", "m", Usage(1, 10, 5, cost_usd=None))


WORST = worst_case(REQUEST, None).tokens


@pytest.mark.parametrize(
    ("first", "known", "unsettled"),
    [
        (said("first"), 30, 0),
        (TransientLLMError("timed out").sent_unanswered(), 15, WORST),
        (TransientLLMError("500"), 15, 0),
    ],
)
def test_what_the_slower_request_took_is_the_same_to_the_budget_and_to_the_attempt(
    hedge: Hedge, first: ModelReply | Exception, known: int, unsettled: int
) -> None:
    client, ledger = Twice(first), Ledger(Budget.parse("1M tokens"))
    context = Context(cast("Run", SimpleNamespace(run_id="r", priority=1)), RunControl(), Resources(), ledger)
    answer = AnswerLadder(hedge).ask(client, REQUEST, json.loads, context)
    assert answer.value == "second"
    assert (ledger.spent, ledger.reserved) == (15, WORST)
    assert context.bill.usage.spent_at_most.tokens == 15 + WORST, "under way it may take its most"
    client.first_may_end.set()
    while ledger.reserved:
        time.sleep(0.001)  # it ends in a thread of its own that nobody is told of
    usage = context.bill.usage
    assert (usage.requests, usage.spent.tokens, usage.unsettled_tokens) == (2, known, unsettled)
    assert ledger.spent == usage.spent_at_most.tokens
