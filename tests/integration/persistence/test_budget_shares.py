"""Sessions that share the budget of a run, over a real database: together they never overrun it."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from thresher.core.errors import BudgetExhausted, StateConflict
from thresher.engine.budget import Budget, Spending
from thresher.engine.gate import NoPermit
from thresher.engine.ledger import Ledger
from thresher.engine.shares import Account
from thresher.engine.work import (
    AttemptRecord,
    AttemptStatus,
    Claim,
    Completion,
    ItemSpec,
    ItemStatus,
    Mode,
    NewRun,
    Usage,
)
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.tables import Base

AMOUNT = 1_000
TOKENS = Budget.parse(f"{AMOUNT} tokens")
LEASE = 60.0


class Sessions:
    """A run with a budget, sessions that work on it, and a clock that is put forward."""

    def __init__(self, db: ThreadSafeDatabaseManager, budget: Budget = TOKENS) -> None:
        self.db, self.ahead = db, timedelta()
        self.store = SqlStore(db, {}, clock=lambda: datetime.now(UTC) + self.ahead)
        self.budget = budget
        self.run_id = self.store.create_run(NewRun("plain", {}, {}, Mode.PARALLEL, "a test", budget=budget)).run_id
        self._items = 0

    def ledger(self, owner: str, budget: Budget | None = None) -> Ledger:
        wanted = budget or self.budget
        return Ledger(wanted, account=Account(self.store, self.run_id, owner, wanted, LEASE))

    def claim(self, owner: str) -> Claim:
        self._items += 1
        spec = ItemSpec(f"item-{self._items}", (self._items,))
        self.store.add_items(self.run_id, [spec], self._items)
        (claim,) = self.store.claim(self.run_id, owner, 1, LEASE)
        return claim

    def finish(self, claim: Claim, usage: Usage) -> None:
        record = AttemptRecord(claim.attempt, AttemptStatus.SUCCEEDED, datetime.now(UTC), 0.0, usage)
        assert self.store.finish(Completion(claim, ItemStatus.SUCCEEDED, record))

    def told(self) -> int:
        """What the attempts say was spent at most."""
        return self.store.totals(self.run_id).usage.spent_at_most.tokens

    def rows(self) -> dict[str, tuple[int, int]]:
        with self.db.read() as session:
            return {row.owner: (row.spent, row.held) for row in session.execute(sa.text("SELECT * FROM budget_shares"))}


@pytest.fixture
def sessions(db: ThreadSafeDatabaseManager) -> Sessions:
    return Sessions(db)


def spend(ledger: Ledger, tokens: int, worst: int | None = None) -> None:
    with ledger.reserve(Spending(worst or tokens)) as reservation:
        reservation.settle(Spending(tokens))


def test_a_session_draws_a_part_and_leaves_the_others_something(sessions: Sessions) -> None:
    one, two = sessions.ledger("one"), sessions.ledger("two")
    spend(one, 10, 100)
    assert sessions.rows() == {"one": (0, 250), "two": (0, 0)}, "a quarter"
    spend(one, 10, 100)
    assert sessions.rows()["one"] == (0, 250), "no write for a request that its share covers"
    spend(two, 500)
    assert sessions.rows()["two"] == (0, 500), "as much as one request takes"
    with pytest.raises(NoPermit), two.reserve(Spending(300), waits=False):
        pytest.fail("the other one holds it")
    one.give_back()
    assert sessions.rows()["one"] == (20, 0)
    spend(two, 480)
    two.give_back()
    with pytest.raises(BudgetExhausted, match="1,000 tokens are spent, and it may take up to 1 tokens"):
        spend(one, 1)


def test_who_finds_too_little_waits_for_what_others_may_give_back(sessions: Sessions) -> None:
    one, two = sessions.ledger("one"), sessions.ledger("two")
    waiter = Thread(target=spend, args=(two, 500))
    with one.reserve(Spending(900)) as reservation:
        waiter.start()
        while sessions.rows()["two"] == (0, 0) and not two._waiting:
            waiter.join(0.01)
        assert two.reserved == 0
        reservation.settle(Spending(100))
    one.give_back()
    waiter.join(timeout=30)
    assert (two.spent, one.spent) == (500, 100)


def test_alone_a_session_spends_all_of_it_and_the_next_one_goes_on_from_the_attempts(sessions: Sessions) -> None:
    alone = sessions.ledger("alone")
    for _ in range(9):
        claim = sessions.claim("alone")
        spend(alone, 100)
        sessions.finish(claim, Usage(1, 100))
    alone.close()
    assert (sessions.rows(), sessions.told()) == ({}, 900)
    after = sessions.ledger("after")
    assert after.spent == 900
    spend(after, 1, 100)
    with pytest.raises(BudgetExhausted, match="901 tokens are spent"):
        spend(after, 100)


def test_what_no_attempt_tells_is_written_to_one_when_the_last_session_ends(sessions: Sessions) -> None:
    one, two = sessions.ledger("one"), sessions.ledger("two")
    first, lost = sessions.claim("one"), sessions.claim("two")
    spend(one, 100)
    sessions.finish(first, Usage(1, 100))
    spend(two, 70)
    sessions.store.release([lost])
    two.close()
    assert (sessions.rows()["two"], sessions.told()) == ((70, 0), 100)
    one.close()
    assert (sessions.rows(), sessions.told()) == ({}, 170)


def test_where_there_is_no_attempt_yet_what_was_spent_is_kept_all_the_same(sessions: Sessions) -> None:
    one = sessions.ledger("one")
    spend(one, 70)
    one.close()
    assert sessions.rows() == {"one": (70, 0)}
    assert sessions.ledger("two").spent == 70


def test_what_a_dead_session_held_is_spent_and_its_lost_attempt_says_so(sessions: Sessions) -> None:
    one, two = sessions.ledger("one"), sessions.ledger("two")
    sessions.claim("one")
    with one.reserve(Spending(200)):
        assert sessions.store.recover(sessions.run_id, {"one"}.__contains__, 10) == 1
        assert sessions.rows()["one"] == (250, 0)
        with pytest.raises(BudgetExhausted):
            spend(two, 751)
        two.close()
        assert (sessions.rows(), sessions.told()) == ({}, 250)
        assert sessions.store.totals(sessions.run_id).usage.spent.tokens == 0


def test_a_session_that_was_held_for_dead_goes_on_and_nothing_is_spent_twice(sessions: Sessions) -> None:
    one = sessions.ledger("one")
    sessions.claim("one")
    with one.reserve(Spending(200)) as late:
        sessions.ahead += timedelta(seconds=2 * LEASE)
        sessions.store.recover(sessions.run_id, lambda _: False, 10)
        two = sessions.ledger("two")
        assert two.spent == 250
        late.settle(Spending(150))
    with pytest.raises(NoPermit), one.reserve(Spending(400), waits=False):
        pytest.fail("its share is gone; it has to look anew")
    spend(one, 400)
    with pytest.raises(NoPermit), two.reserve(Spending(400), waits=False):
        pytest.fail("that would be more than there is")


@pytest.mark.parametrize(("mine", "theirs"), [("1 usd", "1000 tokens"), ("1000 tokens", "1 usd")])
def test_who_counts_in_another_unit_is_refused_while_others_work(
    db: ThreadSafeDatabaseManager, mine: str, theirs: str
) -> None:
    sessions = Sessions(db, Budget.parse(theirs))
    sessions.ledger("one")
    with pytest.raises(StateConflict, match="worked on by a process that keeps a budget in "):
        sessions.ledger("two", Budget.parse(mine))


def test_a_budget_is_refused_while_somebody_works_without_one(sessions: Sessions) -> None:
    sessions.claim("one")
    with pytest.raises(StateConflict, match="does not keep its budget"):
        sessions.ledger("two")


def test_a_new_amount_holds_for_all_sessions_at_once(sessions: Sessions) -> None:
    one = sessions.ledger("one")
    with pytest.raises(BudgetExhausted):
        spend(one, 1_500)
    sessions.store.set_run_budget(sessions.run_id, Budget.parse("2000 tokens"))
    spend(one, 1_500)
    sessions.store.set_run_budget(sessions.run_id, None)
    spend(one, 5_000)


def test_dollars_are_shared_exactly(db: ThreadSafeDatabaseManager) -> None:
    sessions = Sessions(db, Budget.parse("0.10"))
    one, two = sessions.ledger("one"), sessions.ledger("two")
    for ledger in (one, two) * 5:
        claim = sessions.claim("one")
        with ledger.reserve(Spending(1, 0.01)) as reservation:
            reservation.settle(Spending(1, 0.01))
        sessions.finish(claim, Usage(1, 1, cost_usd=0.01))
        ledger.give_back()
    with pytest.raises(BudgetExhausted, match=r"0\.1000 USD are spent"), one.reserve(Spending(1, 0.000001)):
        pytest.fail("nothing is left")
    one.close()
    two.close()
    assert sessions.rows() == {}
    assert sessions.store.totals(sessions.run_id).usage.unsettled_cost_usd == 0


def test_what_a_request_took_that_ended_after_its_attempt_reaches_it(sessions: Sessions) -> None:
    claim = sessions.claim("one")
    sessions.finish(claim, Usage(2, 10, 5, cost_usd=0.5, unsettled_tokens=100, unsettled_cost_usd=0.25))
    sessions.store.amend(claim, Usage(0, 7, 3, cost_usd=0.125, unsettled_tokens=-100, unsettled_cost_usd=-0.25))
    usage = sessions.store.totals(sessions.run_id).usage
    assert usage == Usage(2, 17, 8, cost_usd=0.625)
    assert usage.spent_at_most == usage.spent
    sessions.store.amend(claim, Usage(cost_usd=None))
    assert sessions.store.totals(sessions.run_id).usage.cost_usd is None


class Companies(RuleBasedStateMachine):
    """Sessions come, spend, are killed, sleep through their lease and go on, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._closing = ExitStack()
        folder = Path(self._closing.enter_context(TemporaryDirectory()))
        engine = create_engine(f"sqlite:///{folder / 'shares.db'}")
        Base.metadata.create_all(engine)
        self.db = ThreadSafeDatabaseManager(engine)
        self._closing.callback(self.db.close)
        self.sessions = Sessions(self.db)
        self.ledgers: dict[str, Ledger] = {}
        self.under_way: list[tuple[str, ExitStack, Any, int, Claim]] = []
        self.billed, self.most = 0, 0  # by the server; and by it at most, with what is under way
        self._born = 0

    def teardown(self) -> None:
        self._closing.close()

    def _some(self, number: int) -> str:
        return sorted(self.ledgers)[number % len(self.ledgers)]

    @precondition(lambda self: len(self.ledgers) < 3)
    @rule()
    def come(self) -> None:
        self._born += 1
        name = f"{self._born}"
        with suppress(StateConflict):  # one that slept too long has not looked around yet
            self.ledgers[name] = self.sessions.ledger(name)

    @precondition(lambda self: self.ledgers)
    @rule(number=st.integers(0, 9), worst=st.integers(1, 400))
    def send(self, number: int, worst: int) -> None:
        name = self._some(number)
        stack = ExitStack()
        try:
            reservation = stack.enter_context(self.ledgers[name].reserve(Spending(worst), waits=False))
        except NoPermit:
            return
        self.most += worst
        self.under_way.append((name, stack, reservation, worst, self.sessions.claim(name)))

    @precondition(lambda self: self.under_way)
    @rule(number=st.integers(0, 9), share=st.floats(0, 1))
    def answer(self, number: int, share: float) -> None:
        _, stack, reservation, worst, claim = self.under_way.pop(number % len(self.under_way))
        took = int(worst * share)
        self.billed += took
        self.most += took - worst
        reservation.settle(Spending(took))
        stack.close()
        record = AttemptRecord(claim.attempt, AttemptStatus.SUCCEEDED, datetime.now(UTC), 0.0, Usage(1, took))
        self.sessions.store.finish(Completion(claim, ItemStatus.SUCCEEDED, record))  # or its lease is lost

    @precondition(lambda self: self.ledgers)
    @rule(number=st.integers(0, 9))
    def rest(self, number: int) -> None:
        self.ledgers[self._some(number)].give_back()

    @precondition(lambda self: self.ledgers)
    @rule(number=st.integers(0, 9))
    def leave(self, number: int) -> None:
        name = self._some(number)
        if not any(request[0] == name for request in self.under_way):
            self.ledgers.pop(name).close()

    @precondition(lambda self: self.ledgers)
    @rule(number=st.integers(0, 9))
    def be_killed(self, number: int) -> None:
        """All that it had under way was billed."""
        name = self._some(number)
        del self.ledgers[name]
        self.billed += sum(request[3] for request in self.under_way if request[0] == name)
        self.under_way = [request for request in self.under_way if request[0] != name]
        self.sessions.store.recover(self.sessions.run_id, {name}.__contains__, 100)

    @rule()
    def sleep_too_long(self) -> None:
        self.sessions.ahead += timedelta(seconds=2 * LEASE)
        self.sessions.store.recover(self.sessions.run_id, lambda _: False, 100)

    @invariant()
    def never_more_than_the_budget(self) -> None:
        assert self.billed <= self.most <= AMOUNT


Companies.TestCase.settings = hypothesis_settings(max_examples=25, stateful_step_count=30, deadline=None)
TestCompanies = Companies.TestCase
