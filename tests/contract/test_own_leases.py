"""A session that was stopped for longer than its leases last goes on with what it has in hand."""

from __future__ import annotations

import threading
from collections.abc import Callable

from contract_support import NO_WAIT, Bench, Plain, numbered

from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.ports import AttemptContext
from thresher.engine.runner import RunnerOptions
from thresher.engine.work import AttemptStatus, Claim, Counts, Outcome
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.items import attempts_of, stream_items
from thresher.persistence.repositories.store import SqlStore


class Late(SqlStore):
    """Renews no lease: as in a process that was stopped, and looks for lost items before it renews its own."""

    def __init__(self, db: ThreadSafeDatabaseManager) -> None:
        super().__init__(db, {})
        self.recovered = threading.Semaphore(0)

    def renew(self, owner: str, lease: float) -> int:  # noqa: ARG002
        return 0

    def recover(self, run_id: str, is_dead: Callable[[str], bool], max_losses: int, *, but: str = "") -> int:
        found = super().recover(run_id, is_dead, max_losses, but=but)
        self.recovered.release()
        return found


def test_what_is_in_hand_is_not_taken_back_by_the_one_who_has_it(db: ThreadSafeDatabaseManager) -> None:
    """It would be worked on twice at once, and paid twice."""
    bench = Bench(db, lambda: ThreadsExecutor(2))
    bench.store = late = Late(db)  # type: ignore[misc] # instead of what is made on first use
    done = threading.Event()

    def process(claim: Claim, context: AttemptContext) -> Outcome:
        if claim.key == "item-0" and claim.attempt == 1:
            for _ in range(5):  # the lease is over long since
                assert late.recovered.acquire(timeout=30)
            done.set()
        with context.permit("somebody"):
            return Outcome()

    workflow = Plain(numbered(3), process)
    options = RunnerOptions(retry=NO_WAIT, poll=0.05, lease=0.4)
    report = bench.run(workflow, options=options)
    assert done.is_set()
    assert report.counts == Counts(succeeded=3)
    assert sorted(workflow.calls) == ["item-0", "item-1", "item-2"]
    attempts = [attempt for item in stream_items(db, report.run_id) for attempt in attempts_of(db, item.item_id)]
    assert [attempt.status for attempt in attempts] == [AttemptStatus.SUCCEEDED] * 3
