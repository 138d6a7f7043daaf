"""Which mode a run works in, what takes over where one cannot work, and what is said of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from contract_support import GROUP, NO_WAIT, Bench, Plain, numbered

from thresher.engine.control import RunControl
from thresher.engine.executors.batch import BatchExecutor
from thresher.engine.executors.port import Executor, ModeUnavailable
from thresher.engine.executors.sequential import SequentialExecutor
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.modes import Modes, ModeWish
from thresher.engine.ports import AttemptContext
from thresher.engine.progress import FellBack, ItemsPlanned, RunFinished, RunStarted
from thresher.engine.runner import Runner, RunnerOptions
from thresher.engine.work import Claim, Fallback, ItemSpec, Mode, NewRun, Outcome, Run, RunReport, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager

NO_STACK = 1 << 46  # bytes: no thread can have one, so every start of a thread fails


class Threadless(ThreadsExecutor):
    """An executor where the system really gives no thread."""

    def submit(self, claims: Sequence[Claim]) -> None:
        usual = threading.stack_size(NO_STACK)
        try:
            super().submit(claims)
        finally:
            threading.stack_size(usual)


class Single(Plain):
    """Items that cannot be asked about together."""

    def batch_obstacle(self, run: Run) -> str | None:  # noqa: ARG002
        return "this reader takes one at a time"


def fine(_claim: Claim, _context: AttemptContext) -> Outcome:
    return Outcome()


def make(mode: Mode, threads: bool, pool: Callable[[], Executor] = lambda: ThreadsExecutor(3)) -> Executor:  # noqa: FBT001
    inner: Executor = pool() if threads and mode is not Mode.SEQUENTIAL else SequentialExecutor()
    return BatchExecutor(inner, GROUP) if mode is Mode.BATCH else inner


def threadless(mode: Mode, threads: bool) -> Executor:  # noqa: FBT001
    return make(mode, threads, lambda: Threadless(3))


class Session:
    """Runs a workflow as wished."""

    def __init__(self, db: ThreadSafeDatabaseManager) -> None:
        self.bench = Bench(db, SequentialExecutor)
        self.events = self.bench.events

    def new_run(self) -> Run:
        return self.bench.store.create_run(NewRun("plain", {}, {}, Mode.PARALLEL, "not decided yet"))

    def run(
        self,
        workflow: Plain,
        wish: Mode | None = None,
        *,
        making: Callable[[Mode, bool], Executor] = make,
        run: Run | None = None,
        control: RunControl | None = None,
    ) -> RunReport:
        target = run or self.new_run()
        runner = Runner(self.bench.store, workflow, RunnerOptions(retry=NO_WAIT, poll=0.05))
        modes = Modes(ModeWish(wish, "a test"), making)
        return runner.run(target.run_id, modes, [self.events.append], control)


@pytest.fixture
def session(db: ThreadSafeDatabaseManager) -> Session:
    return Session(db)


@pytest.mark.parametrize(
    ("count", "mode", "reason"),
    [
        (0, Mode.SEQUENTIAL, "auto: no nodes"),
        (1, Mode.SEQUENTIAL, "auto: 1 node"),
        (2, Mode.BATCH, "auto: 2 nodes"),
        (3, Mode.PARALLEL, "auto: more than 2 nodes"),
        (30, Mode.PARALLEL, "auto: more than 2 nodes"),
    ],
)
def test_auto_looks_at_the_beginning_of_the_plan(session: Session, count: int, mode: Mode, reason: str) -> None:
    report = session.run(Plain(numbered(count), fine))
    assert (report.mode, report.mode_reason, report.counts.succeeded) == (mode, reason, count)
    stored = session.bench.store.get_run(report.run_id)
    assert (stored.mode, stored.mode_reason) == (mode, reason)
    assert report.fallbacks == stored.fallbacks == ()
    started, *others = session.events
    assert isinstance(started, RunStarted)
    assert (started.mode, started.run.mode_reason) == (mode, reason)
    assert not [event for event in others if isinstance(event, RunStarted)]
    assert sum(isinstance(event, RunFinished) for event in others) == 1
    assert isinstance(others[-1], RunFinished)
    assert any(isinstance(event, ItemsPlanned) for event in others), "what was planned before the start is told too"


def test_auto_does_not_wait_for_the_end_of_the_plan(session: Session) -> None:
    begun = threading.Event()

    class Long(Plain):
        def plan(self, run: Run) -> Iterator[ItemSpec]:
            for number, spec in enumerate(super().plan(run)):
                if number == 20:
                    assert begun.wait(30), "no item was begun before the plan ended"
                yield spec

    def process(_claim: Claim, _context: AttemptContext) -> Outcome:
        begun.set()
        return Outcome()

    report = session.run(Long(numbered(40), process))
    assert (report.mode, report.counts.succeeded) == (Mode.PARALLEL, 40)


def test_two_items_that_cannot_go_together_are_read_one_by_one(session: Session) -> None:
    report = session.run(Single(numbered(2), fine))
    assert report.mode is Mode.SEQUENTIAL
    assert report.mode_reason == "auto: 2 nodes, and this reader takes one at a time"
    assert report.fallbacks == (), "nothing was chosen before"


def test_batch_mode_where_there_are_no_batches_falls_back_and_says_so(session: Session) -> None:
    report = session.run(Single(numbered(4), fine), Mode.BATCH)
    assert (report.status, report.mode) == (RunStatus.SUCCEEDED, Mode.SEQUENTIAL)
    (fallback,) = report.fallbacks
    assert (fallback.before, fallback.after) == ("batch", "sequential")
    assert fallback.reason == "this reader takes one at a time"


@pytest.mark.parametrize("mode", list(Mode))
def test_a_mode_that_is_wished_is_the_mode(session: Session, mode: Mode) -> None:
    report = session.run(Plain(numbered(12), fine), mode)
    assert (report.mode, report.mode_reason, report.fallbacks) == (mode, "a test", ())
    assert report.counts.succeeded == 12


def test_without_threads_parallel_becomes_batch(session: Session) -> None:
    workflow = Plain(numbered(12), fine)
    report = session.run(workflow, making=threadless)
    assert (report.status, report.mode) == (RunStatus.SUCCEEDED, Mode.BATCH)
    assert sorted(workflow.calls) == sorted(spec.key for spec in numbered(12))
    (fallback,) = report.fallbacks
    assert (fallback.before, fallback.after, fallback.reason) == ("parallel", "batch", "can't start new thread")
    assert [event.fallback for event in session.events if isinstance(event, FellBack)] == [fallback]
    stored = session.bench.store.get_run(report.run_id)
    assert (stored.mode, stored.mode_reason) == (Mode.BATCH, "parallel cannot work here: can't start new thread")
    assert stored.fallbacks == (fallback,)


def test_without_threads_and_batches_parallel_becomes_sequential(session: Session) -> None:
    workflow = Single(numbered(12), fine)
    report = session.run(workflow, Mode.PARALLEL, making=threadless)
    assert (report.mode, report.counts.succeeded) == (Mode.SEQUENTIAL, 12)
    assert [(fallback.before, fallback.after) for fallback in report.fallbacks] == [("parallel", "sequential")]


def test_what_has_succeeded_is_not_repeated_by_the_mode_that_takes_over(session: Session) -> None:
    control = RunControl()

    def stop_at_five(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.key == "item-5":
            control.stop("a test")
        if claim.position[0] > 5:
            assert control.stopping.wait(30)
        return Outcome()

    run = session.bench.planned_run(60)
    first, second = Plain(numbered(60), stop_at_five), Plain(numbered(60), fine)
    assert session.run(first, run=run, control=control).status is RunStatus.PAUSED
    report = session.run(second, run=run, making=threadless)
    assert report.status is RunStatus.SUCCEEDED
    assert sorted(first.calls + second.calls) == sorted(spec.key for spec in numbered(60))
    assert report.fallbacks[0].items == 60 - len(first.calls)


def test_fallbacks_of_earlier_sessions_stay(session: Session) -> None:
    run = session.new_run()
    earlier = (Fallback("batch", "single", "left out", 3),)
    session.bench.store.set_fallbacks(run.run_id, earlier)
    assert session.run(Plain(numbered(4), fine), run=run).fallbacks == earlier


def test_where_some_threads_run_they_do_the_work_of_all(session: Session) -> None:
    """No fallback: the mode works, with fewer workers."""

    class OneThread(ThreadsExecutor):
        first = True

        def submit(self, claims: Sequence[Claim]) -> None:
            usual = threading.stack_size(0 if self.first else NO_STACK)
            self.first = False
            try:
                super().submit(claims)
            finally:
                threading.stack_size(usual)

    report = session.run(
        Plain(numbered(30), fine), Mode.PARALLEL, making=lambda mode, threads: make(mode, threads, lambda: OneThread(4))
    )
    assert (report.mode, report.counts.succeeded, report.fallbacks) == (Mode.PARALLEL, 30, ())
    assert report.peak_concurrency == 1


def test_an_executor_of_the_caller_s_own_does_not_fall_back(session: Session) -> None:
    run = session.new_run()
    runner = Runner(session.bench.store, Plain(numbered(4), fine))
    with pytest.raises(ModeUnavailable):
        runner.run(run.run_id, Threadless(2))
    assert session.bench.store.counts(run.run_id).pending == 4
