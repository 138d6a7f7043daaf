"""What people write as a budget, and reservations under any interleaving."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Made
from hypothesis.stateful import RuleBasedStateMachine, consumes, invariant, rule

from thresher.core.errors import BadConfiguration, BudgetExhausted
from thresher.engine.budget import Budget, Spending, Unit, dollars
from thresher.engine.control import Interrupted
from thresher.engine.gate import NoPermit
from thresher.engine.ledger import Ledger


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("0.50", "0.50", Unit.USD),
        ("0.50usd", "0.50", Unit.USD),
        ("0.50 USD", "0.50", Unit.USD),
        ("$0.50", "0.50", Unit.USD),
        ("0.50$", "0.50", Unit.USD),
        (".5", "0.5", Unit.USD),
        ("3", "3", Unit.USD),
        ("200000tokens", "200000", Unit.TOKENS),
        ("200k tokens", "200000", Unit.TOKENS),
        ("1.5M Tokens", "1500000", Unit.TOKENS),
        ("1 token", "1", Unit.TOKENS),
    ],
)
def test_a_budget_is_read_as_people_write_it(text: str, amount: str, unit: Unit) -> None:
    budget = Budget.parse(text)
    assert (budget.amount, budget.unit) == (Decimal(amount), unit)
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    "text", ["", "cheap", "0", "-1", "0.00 usd", "0 tokens", "1.5 tokens", "$5 tokens", "200k", "1,000", "1e3", "5 eur"]
)
def test_what_is_no_budget_is_refused_in_one_sentence_that_shows_how(text: str) -> None:
    with pytest.raises(BadConfiguration, match=r"is no budget") as refused:
        Budget.parse(text)
    assert repr(text) in str(refused.value)


@given(st.decimals(min_value="0.000001", max_value=10**9, places=6), st.sampled_from(Unit))
def test_a_budget_is_kept_as_text_without_loss(amount: Decimal, unit: Unit) -> None:
    budget = Budget(amount if unit is Unit.USD else Decimal(int(amount) + 1), unit)
    assert Budget.parse(str(budget)) == budget


def test_what_is_left_of_a_budget() -> None:
    budget = Budget.parse("1usd")
    assert budget.minus(Spending(5, 0.25)) == Budget.parse("0.75")
    assert budget.minus(Spending(5, 1.0)) is None
    assert budget.minus(Spending(5, None)) is None
    assert Budget.parse("100tokens").minus(Spending(40, None)) == Budget.parse("60tokens")


def test_small_amounts_are_shown_with_what_there_is_of_them() -> None:
    assert [dollars(amount) for amount in (0, 0.000312, 0.5, 1234.5)] == ["0.0000", "0.000312", "0.5000", "1,234.5000"]


class Reservations(RuleBasedStateMachine):
    """Requests that are sent, answered, or fail, in any order."""

    under_way = Made("under_way")

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget.parse("1000 tokens")
        self.ledger = Ledger(self.budget, Spending(100))
        self.real, self.held = 100, 0

    @rule(target=under_way, worst=st.integers(0, 500))
    def send(self, worst: int) -> tuple[ExitStack, object, int]:
        stack = ExitStack()
        fits = self.real + self.held + worst <= 1000
        try:
            reservation = stack.enter_context(self.ledger.reserve(Spending(worst), waits=False))
        except NoPermit:
            assert not fits
            return stack, None, 0
        assert fits
        self.held += worst
        return stack, reservation, worst

    @rule(request=consumes(under_way), share=st.floats(0, 1))
    def answer(self, request: tuple[ExitStack, object, int], share: float) -> None:
        stack, reservation, worst = request
        if reservation is not None:
            reservation.settle(Spending(int(worst * share)))  # type: ignore[attr-defined]
            self.real += int(worst * share)
        self.held -= worst
        stack.close()

    @rule(request=consumes(under_way))
    def answer_without_saying_what_it_took(self, request: tuple[ExitStack, object, int]) -> None:
        stack, reservation, worst = request
        if reservation is not None:
            reservation.settle(None)  # type: ignore[attr-defined]
            self.real += worst
        self.held -= worst
        stack.close()

    @rule(request=consumes(under_way))
    def fail(self, request: tuple[ExitStack, object, int]) -> None:
        stack, _, worst = request
        self.held -= worst
        with suppress(OSError), stack:
            raise OSError

    @invariant()
    def never_more_than_the_budget(self) -> None:
        assert (self.ledger.spent, self.ledger.reserved) == (self.real, self.held)
        assert self.ledger.spent + self.ledger.reserved <= self.budget.atoms


TestReservations = Reservations.TestCase


def test_many_threads_spend_a_budget_to_its_end_and_no_further() -> None:
    ledger = Ledger(Budget.parse("1000 tokens"))
    refused: list[str] = []
    most = 0

    def work() -> None:
        nonlocal most
        while True:
            try:
                with ledger.reserve(Spending(90)) as reservation:
                    most = max(most, ledger.spent + ledger.reserved)
                    reservation.settle(Spending(7))
            except BudgetExhausted as error:
                refused.append(str(error))
                return

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(refused) == 16
    assert most <= 1000
    assert 1000 - 90 < ledger.spent <= 1000
    assert ledger.reserved == 0
    assert refused[0].startswith("The budget of 1,000 tokens does not cover a further request: 9")


def test_a_request_that_does_not_fit_yet_waits_for_those_under_way_and_the_later_ones_wait_behind_it() -> None:
    ledger = Ledger(Budget.parse("100 tokens"))
    order: list[str] = []

    def send(name: str, worst: int) -> None:
        with ledger.reserve(Spending(worst)) as reservation:
            order.append(name)
            reservation.settle(Spending(1))

    large, small = (threading.Thread(target=send, args=args) for args in (("large", 80), ("small", 5)))
    with ledger.reserve(Spending(90)) as first:
        for number, thread in enumerate((large, small), start=1):
            thread.start()
            while len(ledger._waiting) < number:
                thread.join(0.001)
        assert order == []
        first.settle(Spending(20))
    large.join(timeout=10)
    small.join(timeout=10)
    assert order == ["large", "small"]
    assert ledger.spent == 22


def test_who_waits_for_money_leaves_when_the_run_is_stopped() -> None:
    ledger = Ledger(Budget.parse("100 tokens"))
    with ledger.reserve(Spending(90)), pytest.raises(Interrupted), ledger.reserve(Spending(20), lambda: True):
        pytest.fail("it did not fit")
    assert (ledger.reserved, len(ledger._waiting)) == (0, 0)


def test_dollars_add_up_exactly_over_any_number_of_requests() -> None:
    ledger = Ledger(Budget.parse("1.00"))
    for _ in range(10_000):
        with ledger.reserve(Spending(1, 0.0001)) as reservation:
            reservation.settle(Spending(1, 0.0001))
    with pytest.raises(BudgetExhausted, match=r"1\.0000 USD are spent"), ledger.reserve(Spending(1, 0.0000001)):
        pytest.fail("nothing is left")


def test_a_dollar_budget_is_not_kept_by_guessing_a_price() -> None:
    with pytest.raises(BudgetExhausted, match="price"), Ledger(Budget.parse("1.00")).reserve(Spending(1, None)):
        pytest.fail("its cost is unknown")


def test_without_a_budget_everything_fits() -> None:
    with Ledger().reserve(Spending(10**9, None)) as reservation:
        reservation.settle(None)
