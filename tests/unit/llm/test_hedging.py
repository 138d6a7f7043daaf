from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from thresher.core.errors import TransientLLMError
from thresher.engine.gate import NoPermit
from thresher.engine.work import Usage
from thresher.llm.client import ModelReply
from thresher.llm.hedging import SAMPLES_NEEDED, Hedge

COST = Usage(requests=1, prompt_tokens=100, completion_tokens=20, cost_usd=0.25)
FIRST, SECOND = (ModelReply(text, "stop", "m", COST) for text in ("first", "second"))


def quick(began: Callable[[], None], _waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
    began()
    return FIRST


@pytest.fixture
def hedge() -> Hedge:
    """One that knows how long requests take: next to nothing."""
    hedge = Hedge()
    for _ in range(SAMPLES_NEEDED):
        assert hedge.send(quick) == (FIRST, Usage())
    assert hedge.sent == 0
    return hedge


class Slow:
    """A first request that comes when it is told to, and a second."""

    def __init__(self, second: ModelReply | Exception, first: ModelReply | Exception = FIRST) -> None:
        self.outcomes = {True: first, False: second}
        self.first_may_end, self.second_came = Event(), Event()

    def __call__(self, began: Callable[[], None], waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
        began()
        if waits:
            assert self.first_may_end.wait(10)
        else:
            self.second_came.set()
        outcome = self.outcomes[waits]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_before_anything_is_known_nothing_is_sent_twice() -> None:
    hedge, slow = Hedge(), Slow(SECOND)
    slow.first_may_end.set()
    assert hedge.send(slow) == (FIRST, Usage())
    assert not slow.second_came.is_set()


def test_the_first_answer_is_taken_and_both_are_counted(hedge: Hedge) -> None:
    slow = Slow(SECOND)
    assert hedge.send(slow) == (SECOND, COST), "the other one is still under way: it costs the same"
    slow.first_may_end.set()
    assert hedge.sent == 1


def test_a_second_request_that_fails_leaves_the_first(hedge: Hedge) -> None:
    slow = Slow(TransientLLMError("500"))

    def ask(began: Callable[[], None], waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
        if not waits:
            slow.first_may_end.set()
        return slow(began, waits)

    assert hedge.send(ask) in [(FIRST, Usage(requests=1)), (FIRST, COST)]


def test_where_no_second_one_may_be_sent_the_first_is_waited_for(hedge: Hedge) -> None:
    slow = Slow(NoPermit("full"))

    def ask(began: Callable[[], None], waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
        try:
            return slow(began, waits)
        finally:
            slow.first_may_end.set()

    assert hedge.send(ask) == (FIRST, Usage())
    assert hedge.sent == 0


def test_where_both_fail_the_first_error_counts(hedge: Hedge) -> None:
    slow = Slow(TransientLLMError("second"), TransientLLMError("first"))

    def ask(began: Callable[[], None], waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
        try:
            return slow(began, waits)
        finally:
            slow.first_may_end.set()

    with pytest.raises(TransientLLMError, match="second"):
        hedge.send(ask)


def test_an_error_of_a_request_that_is_not_late_is_raised(hedge: Hedge) -> None:
    def ask(_began: Callable[[], None], _waits: bool) -> ModelReply:  # noqa: FBT001 # see hedging.Ask
        raise TransientLLMError("at once")

    with pytest.raises(TransientLLMError, match="at once"):
        hedge.send(ask)
