"""Ends of items that asked nobody wait for others; nothing of them waits for anything else, and none is lost."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import sqlalchemy as sa
from contract_support import Bench, Plain, numbered

from thresher.core.errors import DatabaseUnavailable
from thresher.engine.executors.threads import MOST_UNSETTLED, ThreadsExecutor
from thresher.engine.ports import AttemptContext
from thresher.engine.progress import ItemFinished
from thresher.engine.runner import RunnerOptions
from thresher.engine.work import Claim, Completion, Counts, ItemStatus, Outcome, RunStatus, Usage
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.store import SqlStore


class Counting(SqlStore):
    """Counts how many ends are written at a time; ``obstacle`` is called with them before."""

    obstacle: Callable[[Sequence[Completion]], None] = staticmethod(lambda _: None)

    def __init__(self, db: ThreadSafeDatabaseManager) -> None:
        super().__init__(db, {})
        self.together: list[int] = []

    def finish_all(self, completions: Sequence[Completion]) -> Sequence[bool]:
        self.together.append(len(completions))
        self.obstacle(completions)
        return super().finish_all(completions)


class OneThread(Bench):
    """What one thread does is in sequence."""

    def __init__(self, db: ThreadSafeDatabaseManager) -> None:
        self.executor = ThreadsExecutor(1)
        super().__init__(db, lambda: self.executor)
        self.store = Counting(db)  # type: ignore[misc] # instead of what is made on first use

    def until_there_is_more_to_do(self, in_hand: int) -> None:
        """For an item that is to have company, however slowly the runner hands out items on this machine."""
        deadline = time.monotonic() + 20
        while self.executor.in_hand() < in_hand:
            assert time.monotonic() < deadline, f"{self.executor.in_hand()} in hand, and no more"
            time.sleep(0.0005)


@pytest.fixture
def one(db: ThreadSafeDatabaseManager, monkeypatch: pytest.MonkeyPatch) -> OneThread:
    """Time settles nothing here: how much is written at a time is not for the speed of this machine to say."""
    monkeypatch.setattr("thresher.engine.runner.SETTLE_WITHIN", 3600.0)
    return OneThread(db)


def statuses(bench: Bench) -> list[str]:
    with bench.db.read() as session:
        return list(session.scalars(sa.text("SELECT status FROM items ORDER BY id")))


def told(bench: Bench) -> list[ItemFinished]:
    return [event for event in bench.events if isinstance(event, ItemFinished)]


def test_they_are_written_many_at_a_time_and_each_is_told_once(one: OneThread) -> None:
    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.position[0] < 397:
            one.until_there_is_more_to_do(3)
        return Outcome(result={"n": 1})

    report = one.run(Plain(numbered(400), process))
    assert report.counts == Counts(succeeded=400)
    together = one.store.together  # type: ignore[attr-defined]
    assert sum(together) == 400
    assert min(together[:-3]) >= 3, "nothing is written while there is more to do"
    assert max(together) <= MOST_UNSETTLED
    assert sorted(event.item for event in told(one)) == sorted({event.item for event in told(one)})
    assert len(told(one)) == 400
    finished = [event.snapshot.counts.finished for event in told(one)]
    assert finished == list(range(1, 401))


def test_all_are_written_before_a_request(one: OneThread) -> None:
    seen: list[list[str]] = []

    def process(claim: Claim, context: AttemptContext) -> Outcome:
        if claim.key == "item-9":
            with context.permit("somebody"):
                seen.append(statuses(one)[:9])
                context.record_usage(Usage(requests=1))
        return Outcome()

    report = one.run(Plain(numbered(12), process))
    assert report.counts.succeeded == 12
    assert seen == [["succeeded"] * 9]


def test_all_are_written_before_an_item_waits_for_what_needs_no_permit(one: OneThread) -> None:
    seen: list[list[str]] = []

    def process(claim: Claim, context: AttemptContext) -> Outcome:
        if claim.key == "item-9":
            context.about_to_wait()
            seen.append(statuses(one)[:9])
        return Outcome()

    assert one.run(Plain(numbered(12), process)).counts.succeeded == 12
    assert seen == [["succeeded"] * 9]


def test_what_somebody_was_asked_for_is_written_at_once_though_it_cost_nothing(one: OneThread) -> None:
    def process(_claim: Claim, context: AttemptContext) -> Outcome:
        with context.permit("a web server"):
            return Outcome()

    one.run(Plain(numbered(30), process))
    assert one.store.together == [1] * 30  # type: ignore[attr-defined]


def test_what_was_paid_for_is_written_at_once(one: OneThread) -> None:
    def process(_claim: Claim, context: AttemptContext) -> Outcome:
        context.record_usage(Usage(requests=1))
        return Outcome()

    one.run(Plain(numbered(30), process))
    assert one.store.together == [1] * 30  # type: ignore[attr-defined]


def test_one_that_cannot_be_written_takes_no_other_with_it(bench: Bench) -> None:
    """Records of a kind that nobody writes: the item dies, with the reason."""

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        return Outcome(records=[{"a": 1}] if claim.key == "item-7" else ())

    report = bench.run(Plain(numbered(40), process))
    assert report.status is RunStatus.PARTIAL
    assert report.counts == Counts(succeeded=39, dead=1)
    (dead,) = [event for event in told(bench) if event.status is ItemStatus.DEAD]
    assert dead.key == "item-7"


def test_one_whose_lease_is_lost_takes_no_other_with_it(one: OneThread) -> None:
    lost = iter([True])

    def steal(completions: Sequence[Completion]) -> None:
        if len(completions) > 1 and next(lost, False):
            with one.db.transaction() as session:
                stolen = "UPDATE items SET lease_owner = 'another', attempts_started = attempts_started + 1 WHERE id = "
                session.execute(sa.text(stolen + ":id"), {"id": completions[0].claim.item_id})

    def in_company(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.position[0] < 30 and claim.attempt == 1:
            one.until_there_is_more_to_do(2)
        return Outcome()

    one.store.obstacle = steal  # type: ignore[attr-defined]
    options = replace(RunnerOptions(), poll=0.05, lease=0.5)
    report = one.run(Plain(numbered(60), in_company), options=options)
    assert next(lost, None) is None, "no two were written together"
    assert report.counts.total == 60
    assert report.counts.succeeded >= 59


def test_a_database_that_is_away_for_a_moment_costs_nothing(one: OneThread) -> None:
    away = itertools.cycle([True, False])
    written: list[int] = []

    def hang_up(completions: Sequence[Completion]) -> None:
        if len(completions) > 1 and next(away):
            raise DatabaseUnavailable("The connection was lost.")
        written.append(len(completions))

    one.store.obstacle = hang_up  # type: ignore[attr-defined]
    report = one.run(Plain(numbered(100), lambda _claim, _context: Outcome()))
    assert report.counts == Counts(succeeded=100)
    assert len(told(one)) == 100
    with one.db.read() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM attempts")) == 100
