"""Queued runs on both databases: who gets which, for how long, and what becomes of those that are left."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from thresher.core.errors import NotFound, StateConflict
from thresher.engine.ports import QueuedRun
from thresher.engine.work import Mode, NewRun, Priority, RunRequest, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.run_queue import SqlRunQueue
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.repositories.workspace_runs import delete_run

NEW = NewRun("discovery", {}, {}, Mode.PARALLEL, "")
LEASE = 60.0  # seconds


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(db: ThreadSafeDatabaseManager, clock: Clock) -> SqlRunQueue:
    return SqlRunQueue(db, clock)


def queued(store: SqlStore, priority: Priority = Priority.NORMAL) -> str:
    return store.create_run(replace(NEW, priority=priority), queued=True).run_id


def taken(queue: SqlRunQueue, owner: str, full: Collection[Priority] = ()) -> QueuedRun:
    found = queue.take(owner, LEASE, full, ())
    assert found is not None
    return found


def test_runs_are_taken_by_priority_then_in_order(store: SqlStore, queue: SqlRunQueue) -> None:
    low, first, second = queued(store, Priority.LOW), queued(store), queued(store)
    urgent = queued(store, Priority.IMMEDIATE)
    assert taken(queue, "one", {Priority.IMMEDIATE}).run_id == first
    assert [taken(queue, "one").run_id for _ in range(3)] == [urgent, second, low]
    assert queue.take("two", LEASE, (), ()) is None


def test_no_run_is_taken_twice_however_many_want_it(store: SqlStore, queue: SqlRunQueue) -> None:
    runs = [queued(store) for _ in range(12)]

    def take_all(owner: str) -> list[str]:
        found = []
        while (run := queue.take(owner, LEASE, (), ())) is not None:
            found.append(run.run_id)
        return found

    with ThreadPoolExecutor(6) as servers:
        shares = list(servers.map(take_all, map(str, range(6))))
    assert sorted(run_id for share in shares for run_id in share) == sorted(runs)


def test_a_silent_server_loses_its_runs_and_one_that_renews_does_not(
    store: SqlStore, queue: SqlRunQueue, clock: Clock
) -> None:
    run_id = queued(store)
    taken(queue, "one")
    clock.now += timedelta(seconds=LEASE - 1)
    assert queue.renew("one", LEASE, [run_id]) == 1
    clock.now += timedelta(seconds=LEASE - 1)
    assert queue.take("two", LEASE, (), ()) is None
    clock.now += timedelta(seconds=2)
    assert taken(queue, "two").run_id == run_id
    assert queue.renew("one", LEASE, [run_id]) == 0


def test_who_was_suspended_does_not_take_again_what_it_has_in_hand(
    store: SqlStore, queue: SqlRunQueue, clock: Clock
) -> None:
    """Its leases are over when it wakes, and nobody else was there to take the run."""
    run_id = queued(store)
    taken(queue, "one")
    clock.now += timedelta(hours=8)
    assert queue.take("one", LEASE, (), [run_id]) is None
    assert queue.take("two", LEASE, (), ()) is not None


def test_a_run_that_was_taken_without_an_answer_is_free_in_time(
    store: SqlStore, queue: SqlRunQueue, clock: Clock
) -> None:
    """The connection was lost as it was leased: its server knows nothing of it."""
    lost, known = queued(store), queued(store)
    assert [taken(queue, "one").run_id for _ in range(2)] == [lost, known]
    clock.now += timedelta(seconds=LEASE - 1)
    assert queue.renew("one", LEASE, [known]) == 1
    clock.now += timedelta(seconds=2)
    again = queue.take("one", LEASE, (), [known])
    assert again is not None
    assert again.run_id == lost


def test_the_dead_are_robbed_at_once(store: SqlStore, queue: SqlRunQueue) -> None:
    run_id = queued(store)
    taken(queue, "dead")
    queue.recover(lambda owner: owner == "other")
    assert queue.take("two", LEASE, (), ()) is None
    queue.recover(lambda owner: owner == "dead")
    assert taken(queue, "two").run_id == run_id


def test_what_is_stopped_or_over_leaves_the_queue(store: SqlStore, queue: SqlRunQueue) -> None:
    paused, over, open_run = queued(store), queued(store), queued(store)
    store.request(paused, RunRequest.PAUSE)
    store.finish_planning(over, {})
    store.set_run_status(over, RunStatus.SUCCEEDED)
    queue.recover(lambda _owner: False)
    assert taken(queue, "one").run_id == open_run
    assert queue.take("one", LEASE, (), ()) is None
    queue.add(paused)
    assert queue.take("one", LEASE, (), ()) is None, "it is still asked to pause"
    store.withdraw(paused)
    assert taken(queue, "one").run_id == paused


def test_a_run_that_was_queued_anew_while_its_session_ended_is_free(
    store: SqlStore, queue: SqlRunQueue, clock: Clock
) -> None:
    run_id = queued(store)
    first = taken(queue, "one")
    clock.now += timedelta(seconds=1)
    queue.add(run_id)
    assert queue.take("two", LEASE, (), ()) is None, "it is in hand"
    queue.remove(first, "one")
    again = taken(queue, "two")
    assert again.run_id == run_id
    queue.remove(again, "two")
    assert queue.take("two", LEASE, (), ()) is None


def test_a_run_that_has_ended_is_deleted_though_its_server_has_not_said_that_it_is_done(
    db: ThreadSafeDatabaseManager, store: SqlStore, queue: SqlRunQueue
) -> None:
    """Whoever was told of the end may delete it; the server then finds nothing to take out of the queue."""
    run_id = queued(store)
    first = taken(queue, "one")
    with pytest.raises(StateConflict, match="is being worked on"):
        delete_run(db, run_id)
    store.finish_planning(run_id, {})
    store.set_run_status(run_id, RunStatus.SUCCEEDED)
    delete_run(db, run_id)
    queue.remove(first, "one")
    assert queue.take("two", LEASE, (), ()) is None
    with pytest.raises(NotFound):
        store.get_run(run_id)


def test_a_run_that_is_put_back_is_pending(store: SqlStore, queue: SqlRunQueue) -> None:
    run_id = queued(store)
    first = taken(queue, "one")
    store.set_run_status(run_id, RunStatus.PAUSED)
    queue.put_back(first, "other")
    assert queue.take("two", LEASE, (), ()) is None, "another's run is not given back"
    queue.put_back(first, "one")
    assert store.get_run(run_id).status is RunStatus.PENDING
    assert taken(queue, "two").run_id == run_id
