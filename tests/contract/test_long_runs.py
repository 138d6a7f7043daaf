"""What a long run must not do: grow, or stop because its database hung up on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from contract_support import NO_WAIT, Bench, Plain

from thresher.core.errors import DatabaseUnavailable
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.ports import AttemptContext
from thresher.engine.progress import ItemFinished, ItemsPlanned
from thresher.engine.runner import RunnerOptions
from thresher.engine.work import Claim, Completion, Counts, ItemSpec, Outcome, Run, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.migrations import upgrade
from thresher.persistence.repositories.store import SqlStore

T = TypeVar("T")
DONE = Outcome(result={"facts": 0})
MEGABYTE = 1024**2


class Numbered(Plain):
    """So many items, planned as a stream; calls ``at[n]`` when the n-th of them is processed."""

    def __init__(self, count: int, at: dict[int, Callable[[], None]]) -> None:
        super().__init__((), lambda _claim, _context: DONE)
        self._count, self._at, self._begun = count, at, 0

    def plan(self, run: Run) -> Iterator[ItemSpec]:  # noqa: ARG002
        return (ItemSpec(key=f"item-{number}", position=(number,), payload=b"x") for number in range(self._count))

    def process(self, claim: Claim, context: AttemptContext) -> Outcome:  # noqa: ARG002
        with self._lock:
            self._begun += 1
            begun = self._begun
        if begun in self._at:
            self._at[begun]()
        return DONE


class Unheard(list):  # type: ignore[type-arg]
    """What keeps no events."""

    def append(self, event: object) -> None:
        """Forgets it."""


def bench_on(db: ThreadSafeDatabaseManager) -> Bench:
    return Bench(db, lambda: ThreadsExecutor(8), Unheard())


def files_open_here() -> list[str]:
    """What the handles of this process stand for; one that is closed meanwhile is none."""
    names = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(str(handle.readlink()))
    return names


def test_threads_handles_and_memory_stay_flat_over_twenty_thousand_items(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    upgrade(engine)
    db = ThreadSafeDatabaseManager(engine)
    seen: list[tuple[int, int, int]] = []
    memory: list[int] = []

    def look() -> None:
        open_files = files_open_here()
        of_database = sum(name.startswith(str(engine.url.database)) for name in open_files)
        seen.append((threading.active_count(), len(open_files) - of_database, of_database))
        memory.append(psutil.Process(os.getpid()).memory_info().rss)

    report = bench_on(db).run(Numbered(20_000, {2_000: look, 11_000: look, 19_900: look}))
    db.close()
    assert (report.status, report.counts.succeeded) == (RunStatus.SUCCEEDED, 20_000)
    threads, handles, of_database = zip(*seen, strict=True)
    assert threads[-1] <= threads[0], "the planner's thread has ended meanwhile, no other has begun"
    assert len(set(handles)) == 1, handles
    assert max(of_database) <= 3 * (8 + 3), f"file, log and index for workers, writer, planner, loop: {of_database}"
    assert memory[-1] - memory[0] < 8 * MEGABYTE, memory


class AnswerLost(SqlStore):
    """The second claim that finds anything is made, and then the database hangs up before it says so."""

    claims = 0

    def claim(self, run_id: str, owner: str, limit: int, lease: float) -> Sequence[Claim]:
        claimed = super().claim(run_id, owner, limit, lease)
        self.claims += bool(claimed)
        if claimed and self.claims == 2:
            raise DatabaseUnavailable("The connection was lost.")
        return claimed


def test_items_that_were_claimed_while_the_database_hung_up_are_processed_all_the_same(bench: Bench) -> None:
    store = bench.store = AnswerLost(bench.db, {})
    report = bench.run(Numbered(100, {}))
    assert store.claims >= 2
    assert (report.status, report.counts.succeeded, report.errors) == (RunStatus.SUCCEEDED, 100, {})
    assert bench.store.totals(report.run_id).attempts == 100


class EveryAnswerLost(SqlStore):
    """What is planned and what is finished is written, and each time the database hangs up before it says so."""

    def __init__(self, db: ThreadSafeDatabaseManager) -> None:
        super().__init__(db, {})
        self._told: set[object] = set()

    def add_items(self, run_id: str, specs: Sequence[ItemSpec], planned: int, at: datetime | None = None) -> int:
        return self._at_the_second_try(("add", planned), super().add_items(run_id, specs, planned, at))

    def finish(self, completion: Completion) -> bool:
        key = (completion.claim.item_id, completion.attempt.number)
        return self._at_the_second_try(key, super().finish(completion))

    def _at_the_second_try(self, what: object, answer: T) -> T:
        if what not in self._told:
            self._told.add(what)
            raise DatabaseUnavailable("The connection was lost.")
        return answer


def test_progress_is_true_where_every_answer_of_the_database_is_lost(bench: Bench) -> None:
    bench.store = EveryAnswerLost(bench.db)
    report = bench.run(Numbered(30, {}))
    assert (report.status, report.counts.succeeded, report.errors) == (RunStatus.SUCCEEDED, 30, {})
    planned = [event.snapshot.counts.total for event in bench.events if isinstance(event, ItemsPlanned)]
    assert planned[-1] == 30
    finished = [event.snapshot.counts for event in bench.events if isinstance(event, ItemFinished)]
    assert Counts(succeeded=30) in finished
    assert bench.store.totals(report.run_id).attempts == 30


@pytest.mark.postgres
def test_connections_that_are_cut_in_the_middle_lose_nothing_and_do_nothing_twice(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    upgrade(engine)
    db = ThreadSafeDatabaseManager(engine)
    cut: list[int] = []

    def cut_all() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            cut.append(len(other.execute(f"SELECT pg_terminate_backend(pid) {others}").fetchall()))

    bench, nodes = bench_on(db), 3_000
    workflow = Numbered(nodes, dict.fromkeys(range(200, nodes, 400), cut_all))
    report = bench.run(workflow, options=RunnerOptions(retry=NO_WAIT, poll=0.05, lease=3.0))
    assert (report.status, report.counts.succeeded, report.counts.total) == (RunStatus.SUCCEEDED, nodes, nodes)
    assert len(cut) == 7
    assert min(cut) >= 1, "each cut met a connection"
    with db.read() as session:
        attempts = "SELECT count(*), count(DISTINCT item_id) FROM attempts WHERE status = 'succeeded'"
        assert tuple(session.execute(sa.text(attempts)).one()) == (nodes, nodes)
    db.close()
