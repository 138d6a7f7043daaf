from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as ThreadEvent

import pytest

from thresher.core.errors import MalformedDocument
from thresher.engine.control import RunControl
from thresher.engine.planner import LARGEST_BATCH_BYTES, Planner
from thresher.engine.ports import AttemptContext
from thresher.engine.progress import Event, ItemsPlanned, Tally
from thresher.engine.work import Claim, Counts, ItemSpec, ItemStatus, Mode, NewRun, Outcome, Run, Usage
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.migrations import upgrade
from thresher.persistence.repositories.store import SqlStore


class Planned:
    """A workflow of which only the plan matters."""

    kind = "planned"

    def __init__(self, specs: Callable[[], Iterator[ItemSpec]]) -> None:
        self.yielded = 0
        self._specs = specs

    def plan(self, run: Run) -> Iterator[ItemSpec]:  # noqa: ARG002
        for spec in self._specs():
            self.yielded += 1
            yield spec

    def process(self, claim: Claim, context: AttemptContext) -> Outcome:
        raise AssertionError((claim, context))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    engine = create_engine(f"sqlite:///{tmp_path / 'plan.db'}")
    upgrade(engine)
    db = ThreadSafeDatabaseManager(engine)
    yield SqlStore(db, {})
    db.close()


def numbered(count: int, size: int = 1) -> list[ItemSpec]:
    return [ItemSpec(key=f"k{number}", position=(number,), payload=b"x" * size) for number in range(count)]


def plan(
    store: SqlStore, workflow: Planned, run: Run | None = None, *, control: RunControl | None = None
) -> tuple[Run, RunControl, list[Event]]:
    run = run or store.create_run(NewRun("planned", {}, {}, Mode.SEQUENTIAL, "a test"))
    control, events = control or RunControl(), list[Event]()
    tally = Tally(store.counts(run.run_id), planning_complete=False, workers=1)
    with Planner(store, workflow, run, tally, ahead=10).running(control, events.append, first=True):
        pass
    return store.get_run(run.run_id), control, events


def test_the_whole_plan_becomes_items_in_batches_that_are_small_at_first(store: SqlStore) -> None:
    run, control, events = plan(store, Planned(lambda: iter(numbered(100))))
    assert (run.planned, run.planning_complete, control.error) == (100, True, None)
    assert store.counts(run.run_id) == Counts(pending=100)
    totals = [event.snapshot.counts.total for event in events if isinstance(event, ItemsPlanned)]
    assert totals == [8, 24, 56, 100, 100]


def test_large_payloads_make_small_batches(store: SqlStore) -> None:
    _, _, events = plan(store, Planned(lambda: iter(numbered(4, LARGEST_BATCH_BYTES))))
    totals = [event.snapshot.counts.total for event in events if isinstance(event, ItemsPlanned)]
    assert totals == [1, 2, 3, 4, 4]


def test_the_same_key_twice_is_one_item(store: SqlStore) -> None:
    twice = [*numbered(5), *numbered(5)]
    run, _, _ = plan(store, Planned(lambda: iter(twice)))
    assert store.counts(run.run_id).total == 5


def test_skipped_items_are_counted_as_skipped(store: SqlStore) -> None:
    skipped = [ItemSpec(key=f"s{n}", position=(n,), skip_reason="disabled") for n in range(3)]
    run, _, events = plan(store, Planned(lambda: iter(skipped)))
    assert store.counts(run.run_id) == Counts(skipped=3)
    last = events[-1]
    assert isinstance(last, ItemsPlanned)
    assert last.snapshot.counts == Counts(skipped=3)


def test_a_plan_that_breaks_fails_the_run_and_keeps_what_is_stored(store: SqlStore) -> None:
    def breaking() -> Iterator[ItemSpec]:
        yield from numbered(20)
        raise MalformedDocument("broken", line=3, column=7)

    run, control, _ = plan(store, Planned(breaking))
    assert isinstance(control.error, MalformedDocument)
    assert control.stopping.is_set()
    assert not run.planning_complete
    assert store.counts(run.run_id).total == run.planned == 8

    mended, control, _ = plan(store, Planned(lambda: iter(numbered(30))), run)
    assert (mended.planned, mended.planning_complete, control.error) == (30, True, None)
    assert store.counts(run.run_id).total == 30


def test_a_run_that_is_stopped_plans_no_further(store: SqlStore) -> None:
    control = RunControl()
    control.stop("interrupted")
    run, _, _ = plan(store, Planned(lambda: iter(numbered(50))), control=control)
    assert not run.planning_complete
    assert store.counts(run.run_id).total == 0


def test_beside_the_work_the_plan_stays_a_bounded_way_ahead(store: SqlStore) -> None:
    workflow = Planned(lambda: iter(numbered(1000)))
    run = store.create_run(NewRun("planned", {}, {}, Mode.PARALLEL, "a test"))
    tally, control, full = Tally(Counts(), planning_complete=False, workers=1), RunControl(), ThreadEvent()

    def listen(_event: Event) -> None:
        if tally.unfinished >= 20:
            full.set()

    planner = Planner(store, workflow, run, tally, ahead=20)
    with planner.running(control, listen, first=False):
        assert full.wait(30)
        ahead = workflow.yielded
        assert ahead <= 20 + 2 * 32, "no more than the batch in hand and the one that waits"
        full.clear()
        for _ in range(tally.unfinished):
            tally.ended(ItemStatus.SUCCEEDED, 0.0, Usage(), None)
        planner.wake()
        assert full.wait(30), "it goes on where there is room again"
        control.stop("enough")
    assert not planner.complete
    assert workflow.yielded < 1000
