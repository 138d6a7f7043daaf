"""What is asked of a run from outside, on both databases: paused, cancelled, taken back, retried in part."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from thresher.core.errors import NotFound, StateConflict
from thresher.engine.work import (
    AttemptRecord,
    AttemptStatus,
    Claim,
    Completion,
    Counts,
    ItemSpec,
    ItemStatus,
    Mode,
    NewRun,
    Outcome,
    Priority,
    Run,
    RunReport,
    RunRequest,
    RunStatus,
    Usage,
)
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.items import Chosen, count_chosen, dead_letters, retry_items, stream_items
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.tables import RunRow

NEW = NewRun("discovery", {}, {}, Mode.PARALLEL, "")
SPECS = [ItemSpec(f"item-{number}", (number,), b"<a/>") for number in range(6)]


@pytest.fixture
def run(store: SqlStore) -> Run:
    """A run under way, planned whole, nobody at work."""
    run = store.create_run(NEW)
    store.add_items(run.run_id, SPECS, len(SPECS))
    store.finish_planning(run.run_id, {})
    store.set_run_status(run.run_id, RunStatus.RUNNING)
    return run


def ended(
    claim: Claim, status: ItemStatus, error_class: str | None = None, children: tuple[ItemSpec, ...] = ()
) -> Completion:
    attempt_status = AttemptStatus.SUCCEEDED if status is ItemStatus.SUCCEEDED else AttemptStatus.FAILED
    attempt = AttemptRecord(claim.attempt, attempt_status, datetime.now(UTC), 0.1, error_class=error_class)
    return Completion(claim, status, attempt, Outcome(children=children))


def report(store: SqlStore, run: Run, status: RunStatus) -> RunReport:
    return RunReport(run.run_id, status, Mode.PARALLEL, "", store.counts(run.run_id), Usage(), 1.0, 1.0, 1, {})


def test_where_nobody_works_a_run_is_paused_at_once_and_nothing_can_be_claimed(store: SqlStore, run: Run) -> None:
    paused = store.request(run.run_id, RunRequest.PAUSE)
    assert (paused.status, paused.requested, paused.finished_at) == (RunStatus.PAUSED, RunRequest.PAUSE, None)
    assert store.claim(run.run_id, "me", 9, 60) == []
    store.withdraw(run.run_id)
    assert store.requested(run.run_id) is None
    assert len(store.claim(run.run_id, "me", 9, 60)) == 6


def test_where_nobody_works_a_run_is_cancelled_at_once_with_all_that_is_pending(
    store: SqlStore, db: ThreadSafeDatabaseManager, run: Run
) -> None:
    (claim,) = store.claim(run.run_id, "me", 1, 60)
    store.finish(ended(claim, ItemStatus.SUCCEEDED))
    cancelled = store.request(run.run_id, RunRequest.CANCEL)
    assert cancelled.status is RunStatus.CANCELLED
    assert cancelled.finished_at is not None
    assert store.counts(run.run_id) == Counts(succeeded=1, cancelled=5)
    assert store.next_due(run.run_id) is None
    kept = {item.payload_bytes for item in stream_items(db, run.run_id) if item.status is ItemStatus.CANCELLED}
    assert kept == {4}, "they may be brought back"


def test_what_is_in_hand_is_finished_and_the_last_one_out_settles(store: SqlStore, run: Run) -> None:
    (mine,) = store.claim(run.run_id, "me", 1, 60)
    (other,) = store.claim(run.run_id, "another process", 1, 60)
    assert store.request(run.run_id, RunRequest.CANCEL).status is RunStatus.RUNNING
    assert store.counts(run.run_id) == Counts(running=2, cancelled=4)
    assert store.leases(run.run_id).keys() == {"me", "another process"}

    child = ItemSpec("item-0/1", (0, 1))
    assert store.finish(ended(mine, ItemStatus.SUCCEEDED, children=(child,)))
    store.end_run(report(store, run, RunStatus.RUNNING))
    assert store.get_run(run.run_id).status is RunStatus.RUNNING

    assert store.finish(ended(other, ItemStatus.PENDING, "RateLimited"))
    assert store.settle(run.run_id) is RunRequest.CANCEL
    assert store.counts(run.run_id) == Counts(succeeded=1, cancelled=6)
    store.end_run(report(store, run, RunStatus.CANCELLED))
    done = store.get_run(run.run_id)
    assert (done.status, done.requested) == (RunStatus.CANCELLED, RunRequest.CANCEL)


def test_of_two_that_end_together_none_leaves_the_run_running(store: SqlStore, run: Run) -> None:
    """The first has seen the other at work and says so after the other has ended."""
    (mine,) = store.claim(run.run_id, "me", 1, 60)
    (other,) = store.claim(run.run_id, "another process", 1, 60)
    store.request(run.run_id, RunRequest.PAUSE)
    store.finish(ended(mine, ItemStatus.SUCCEEDED))
    late = report(store, run, RunStatus.RUNNING)
    store.finish(ended(other, ItemStatus.SUCCEEDED))
    store.end_run(report(store, run, RunStatus.PAUSED))
    store.end_run(late)
    assert store.get_run(run.run_id).status is RunStatus.PAUSED


def test_items_of_a_dead_worker_are_not_left_running(store: SqlStore, run: Run) -> None:
    store.claim(run.run_id, "dead", 2, 60)
    store.request(run.run_id, RunRequest.CANCEL)
    store.recover(run.run_id, lambda owner: owner == "dead", 10)
    store.settle(run.run_id)
    assert store.get_run(run.run_id).status is RunStatus.CANCELLED
    assert store.counts(run.run_id) == Counts(cancelled=6)
    assert store.totals(run.run_id).errors == {"WorkerLost": 2}


def test_a_cancelled_run_gets_no_more_items_and_its_plan_stays_where_it_was(store: SqlStore) -> None:
    run = store.create_run(NEW)
    store.add_items(run.run_id, SPECS[:3], 3)
    store.request(run.run_id, RunRequest.CANCEL)
    assert store.add_items(run.run_id, SPECS[3:], 6) == 0
    assert store.get_run(run.run_id).planned == 3
    assert store.counts(run.run_id) == Counts(cancelled=3)


def test_to_cancel_comes_before_to_pause(store: SqlStore, run: Run) -> None:
    store.claim(run.run_id, "me", 1, 60)
    store.request(run.run_id, RunRequest.PAUSE)
    store.request(run.run_id, RunRequest.CANCEL)
    with pytest.raises(StateConflict, match="being cancelled"):
        store.request(run.run_id, RunRequest.PAUSE)
    with pytest.raises(StateConflict, match="being cancelled"):
        store.withdraw(run.run_id)
    assert store.requested(run.run_id) is RunRequest.CANCEL


def test_an_ended_run_cannot_be_asked_for_anything(store: SqlStore, run: Run) -> None:
    for status in (RunStatus.SUCCEEDED, RunStatus.PARTIAL, RunStatus.FAILED):
        store.end_run(report(store, run, status))
        for request in RunRequest:
            with pytest.raises(StateConflict, match=f"has ended already: {status}"):
                store.request(run.run_id, request)
    assert store.requested(run.run_id) is None


def test_an_unknown_run_is_not_found(store: SqlStore) -> None:
    for call in (store.requested, store.withdraw, store.settle, lambda run: store.request(run, RunRequest.PAUSE)):
        with pytest.raises(NotFound, match="'r-none'"):
            call("r-none")


def test_a_run_that_succeeds_while_it_is_asked_has_succeeded(store: SqlStore, run: Run) -> None:
    claims = store.claim(run.run_id, "me", 9, 60)
    store.request(run.run_id, RunRequest.PAUSE)
    for claim in claims:
        store.finish(ended(claim, ItemStatus.SUCCEEDED))
    store.end_run(report(store, run, RunStatus.SUCCEEDED))
    done = store.get_run(run.run_id)
    assert (done.status, done.requested) == (RunStatus.SUCCEEDED, None)


def test_a_run_that_fails_as_a_whole_while_it_is_cancelled_is_cancelled(store: SqlStore, run: Run) -> None:
    (claim,) = store.claim(run.run_id, "me", 1, 60)
    store.request(run.run_id, RunRequest.CANCEL)
    store.finish(ended(claim, ItemStatus.PENDING, "AuthenticationFailed"))
    error = {"class": "AuthenticationFailed", "message": "no"}
    store.end_run(replace(report(store, run, RunStatus.FAILED), error=error))
    done = store.get_run(run.run_id)
    assert (done.status, done.error) == (RunStatus.CANCELLED, error)
    assert store.counts(run.run_id) == Counts(cancelled=6)


def test_a_cancelled_run_comes_back_only_with_its_cancelled_items(
    store: SqlStore, db: ThreadSafeDatabaseManager, run: Run
) -> None:
    store.request(run.run_id, RunRequest.CANCEL)
    for go_on in (lambda: store.withdraw(run.run_id), lambda: retry_items(db, run.run_id)):
        with pytest.raises(StateConflict, match="is cancelled") as refused:
            go_on()
        assert "--cancelled" in (refused.value.hint or "")
    assert retry_items(db, run.run_id, Chosen(cancelled=True)) == 6
    back = store.get_run(run.run_id)
    assert (back.status, back.requested, back.finished_at) == (RunStatus.PAUSED, None, None)
    claims = store.claim(run.run_id, "me", 9, 60)
    assert [claim.payload for claim in claims] == [b"<a/>"] * 6


def test_dead_items_are_chosen_by_key_id_and_error(store: SqlStore, db: ThreadSafeDatabaseManager, run: Run) -> None:
    claims = store.claim(run.run_id, "me", 5, 60)
    errors = ["RateLimited", "UnusableAnswer", "RateLimited", "WorkerLost"]
    for claim, error in zip(claims, errors, strict=False):
        store.finish(ended(claim, ItemStatus.DEAD, error))
    store.finish(ended(claims[4], ItemStatus.SUCCEEDED))

    def found(**chosen: object) -> int:
        return count_chosen(db, run.run_id, Chosen(**chosen))  # type: ignore[arg-type]

    by_id = str(claims[1].item_id)
    assert (found(), found(items=["item-0", by_id]), found(error_classes=["RateLimited"])) == (4, 2, 2)
    assert found(error_classes=["RateLimited", "WorkerLost"]) == 3
    assert found(items=["item-0", by_id], error_classes=["RateLimited"]) == 1
    assert [letter.key for letter in dead_letters(db, run.run_id, ["RateLimited"])] == ["item-0", "item-2"]
    for unknown in ("item-4", "item-99", "9" * 30, "²"):  # one succeeded, the others are none
        with pytest.raises(NotFound, match=unknown):
            found(items=[unknown])
        with pytest.raises(NotFound, match=unknown):
            retry_items(db, run.run_id, Chosen(items=["item-0", unknown]))
    assert retry_items(db, run.run_id, Chosen(items=["item-0", by_id])) == 2
    assert store.counts(run.run_id) == Counts(pending=3, succeeded=1, dead=2)
    (again, *_) = store.claim(run.run_id, "me", 1, 60)
    assert (again.key, again.attempt, again.failures) == ("item-0", 2, 0)


def test_leases_tell_until_when_each_holds_its_items(store: SqlStore, run: Run) -> None:
    before = datetime.now(UTC)
    store.claim(run.run_id, "me", 1, 60)
    store.claim(run.run_id, "me", 1, 90)
    leases = store.leases(run.run_id)
    assert leases.keys() == {"me"}
    assert timedelta(seconds=89) < leases["me"] - before < timedelta(seconds=120)


def test_the_priority_of_a_run_is_kept(store: SqlStore, run: Run) -> None:
    assert run.priority is Priority.NORMAL
    kept = store.create_run(replace(NEW, priority=Priority.LOW))
    assert store.get_run(kept.run_id).priority is Priority.LOW
    assert Priority.IMMEDIATE < Priority.NORMAL < Priority.LOW


def test_the_database_takes_no_other_requests_and_priorities(db: ThreadSafeDatabaseManager, run: Run) -> None:
    for values in ({"requested": "stop"}, {"priority": 3}, {"priority": -1}):
        update = sa.update(RunRow).where(RunRow.id == run.run_id).values(values)
        with pytest.raises(IntegrityError):
            db.write_with_lock(lambda session, update=update: session.execute(update))  # type: ignore[misc]
