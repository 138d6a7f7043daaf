"""Law 13: pause stops new starts within one item, cancel leaves nothing runnable; whoever asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from contract_support import Bench, Plain, numbered

from thresher.core.errors import AuthenticationFailed, StateConflict, TransientLLMError
from thresher.engine.attempt import Context
from thresher.engine.control import RunControl
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.gate import Turn
from thresher.engine.ports import AttemptContext
from thresher.engine.progress import Event, RunFinished, RunStarted, RunStopping
from thresher.engine.retry import RetryPolicy
from thresher.engine.runner import RunnerOptions
from thresher.engine.work import (
    Claim,
    Counts,
    ItemSpec,
    NewRun,
    Outcome,
    Priority,
    Run,
    RunReport,
    RunRequest,
    RunStatus,
)
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.items import Chosen, retry_items
from thresher.persistence.repositories.store import SqlStore

WITHIN = 30.0  # seconds; a test that waits so long has failed


def succeed(_claim: Claim, _context: AttemptContext) -> Outcome:
    return Outcome()


class Asked:
    """Processes items until one of them has somebody else ask for something; all that run then wait to see it.

    Items behind that one wait for it, so that there is something left to do whatever the speed of each worker.
    """

    def __init__(self, bench: Bench, run: Run, request: RunRequest, at: int = 5) -> None:
        self.control = RunControl()
        self.controls = [self.control]  # of all sessions
        self.after = 0  # items that began after the request was acknowledged
        self._asked = threading.Event()
        self._bench, self._run, self._request, self._at = bench, run, request, at

    def __call__(self, claim: Claim, _context: AttemptContext) -> Outcome:
        self.after += self._asked.is_set()
        if claim.position[0] == self._at:
            self._bench.store.request(self._run.run_id, self._request)
            self._asked.set()
        elif claim.position[0] > self._at:
            assert self._asked.wait(WITHIN)
        if self._asked.is_set():
            assert all(control.stopping.wait(WITHIN) for control in self.controls)
        return Outcome()


def run_and_ask(bench: Bench, run: Run, request: RunRequest) -> tuple[Plain, RunReport]:
    asked = Asked(bench, run, request)
    workflow = Plain(numbered(60), asked)
    report = bench.run(workflow, run, control=asked.control)
    assert asked.after < bench.in_hand_at_most, "no worker starts more than the item, or the group, it is in"
    return workflow, report


def test_short_items_do_not_slip_in_before_somebody_looks(bench: Bench) -> None:
    """Nobody waits here to see the request: whoever ends an item learns of it by that."""
    run = bench.new_run()
    lock, began_after, is_asked = threading.Lock(), [], threading.Event()

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        with lock:
            if is_asked.is_set():
                began_after.append(claim.key)
            elif claim.key == "item-5":
                bench.store.request(run.run_id, RunRequest.PAUSE)
                is_asked.set()
        return Outcome()

    report = bench.run(Plain(numbered(400), process), run)
    assert report.status is RunStatus.PAUSED
    assert len(began_after) <= bench.in_hand_at_most


def test_who_has_not_written_since_the_request_asks_before_the_next_item(db: ThreadSafeDatabaseManager) -> None:
    bench = Bench(db, lambda: ThreadsExecutor(2))
    run = bench.new_run()
    both, lock, began, is_asked = threading.Barrier(2), threading.Lock(), list[str](), threading.Event()

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        with lock:
            began.append(claim.key)
            is_first = len(began) <= 2
        if is_first:
            both.wait(20)
            if claim.key == "item-0":
                bench.store.request(run.run_id, RunRequest.PAUSE)
                is_asked.set()
            assert is_asked.wait(20)
        return Outcome()

    assert bench.run(Plain(numbered(6), process), run).status is RunStatus.PAUSED
    assert sorted(began) == ["item-0", "item-1"]


class CancelledWhileTakenUp(SqlStore):
    """Somebody cancels a run that nobody works on yet, just as somebody begins to."""

    def recover(self, run_id: str, is_dead: Callable[[str], bool], max_losses: int, *, but: str = "") -> int:
        found = super().recover(run_id, is_dead, max_losses, but=but)
        super().request(run_id, RunRequest.CANCEL)
        return found


def test_a_run_that_is_cancelled_while_a_session_takes_it_up_stays_so(bench: Bench) -> None:
    """It is cancelled at once, as nobody holds any of it; who has read that does not see it run again."""
    bench.store = CancelledWhileTakenUp(bench.db, {})
    run = bench.new_run()
    with pytest.raises(StateConflict, match="is cancelled"):
        bench.run(Plain(numbered(5), succeed), run)
    after = bench.store.get_run(run.run_id)
    assert (after.status, after.started_at) == (RunStatus.CANCELLED, None)
    assert after.finished_at is not None


class TakenBack(SqlStore):
    """Somebody brings a cancelled run back at the very moment at which its planner has seen that it is cancelled."""

    def __init__(self, db: ThreadSafeDatabaseManager) -> None:
        super().__init__(db, {})
        self._database = db

    def requested(self, run_id: str) -> RunRequest | None:
        if threading.current_thread().name == "thresher-requests":
            return None  # comes too late each time
        asked = super().requested(run_id)
        if asked is RunRequest.CANCEL:
            retry_items(self._database, run_id, Chosen(cancelled=True))
        return asked


class CancelledWhilePlanned(Plain):
    """Is asked to be cancelled before its first item is known, so that nobody holds one."""

    store: SqlStore

    def plan(self, run: Run) -> Iterator[ItemSpec]:
        self.store.request(run.run_id, RunRequest.CANCEL)
        yield from super().plan(run)


@pytest.mark.timeout(30)
def test_a_run_that_is_cancelled_and_brought_back_while_it_begins_does_not_wait_for_ever(bench: Bench) -> None:
    bench.store = TakenBack(bench.db)
    run = bench.new_run()
    workflow = CancelledWhilePlanned(numbered(5), succeed)
    workflow.store = bench.store
    assert bench.run(workflow, run).status is RunStatus.PAUSED, "what was taken back is not done"
    assert bench.run(Plain(numbered(5), succeed), run).status is RunStatus.SUCCEEDED


def test_a_pause_finishes_what_is_in_hand_and_resume_goes_on(bench: Bench) -> None:
    run = bench.new_run()
    first, report = run_and_ask(bench, run, RunRequest.PAUSE)
    assert report.status is RunStatus.PAUSED
    assert (report.counts.succeeded, report.counts.running, report.counts.cancelled) == (len(first.calls), 0, 0)
    (stopping,) = (event for event in bench.events if isinstance(event, RunStopping))
    assert stopping.request is RunRequest.PAUSE

    still_asked = Plain(numbered(60), succeed)
    assert bench.run(still_asked, run).status is RunStatus.PAUSED
    assert still_asked.calls == []

    bench.store.withdraw(run.run_id)
    second = Plain(numbered(60), succeed)
    assert bench.run(second, run).status is RunStatus.SUCCEEDED
    assert sorted(first.calls + second.calls) == sorted(spec.key for spec in numbered(60))


def test_a_cancelled_run_keeps_what_was_in_hand_and_leaves_nothing_runnable(bench: Bench) -> None:
    run = bench.new_run()
    workflow, report = run_and_ask(bench, run, RunRequest.CANCEL)
    assert report.status is RunStatus.CANCELLED
    done = len(workflow.calls)
    assert report.counts == Counts(succeeded=done, cancelled=report.counts.total - done)
    assert sum(isinstance(event, RunFinished) for event in bench.events) == 1
    stored = bench.store.get_run(run.run_id)
    assert (stored.status, stored.finished_at is not None) == (RunStatus.CANCELLED, True)
    assert bench.store.claim(run.run_id, "anybody", 99, 60) == []
    with pytest.raises(StateConflict, match="cancelled"):
        bench.run(Plain(numbered(60), succeed), run)

    retry_items(bench.db, run.run_id, Chosen(cancelled=True))
    again = Plain(numbered(60), succeed)
    assert bench.run(again, run).counts == Counts(succeeded=60)
    assert sorted(workflow.calls + again.calls) == sorted(spec.key for spec in numbered(60))


def test_what_would_be_tried_again_is_cancelled_too(bench: Bench) -> None:
    run, control = bench.new_run(), RunControl()

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.key == "item-1":
            bench.store.request(run.run_id, RunRequest.CANCEL)
            assert control.stopping.wait(WITHIN)
        raise TransientLLMError("later", retry_after=3600.0)

    options = RunnerOptions(retry=RetryPolicy(), poll=0.05)
    report = bench.run(Plain(numbered(20), process), run, control=control, options=options)
    assert report.status is RunStatus.CANCELLED
    assert report.counts == Counts(cancelled=report.counts.total)


def test_a_run_that_only_waits_for_a_retry_hears_of_it_too(bench: Bench) -> None:
    run = bench.new_run()
    failed = threading.Event()

    def process(_claim: Claim, _context: AttemptContext) -> Outcome:
        failed.set()
        raise TransientLLMError("later", retry_after=3600.0)

    def ask() -> None:
        assert failed.wait(WITHIN)
        while bench.store.counts(run.run_id).running:
            pass
        bench.store.request(run.run_id, RunRequest.PAUSE)

    asking = threading.Thread(target=ask)
    asking.start()
    report = bench.run(Plain(numbered(1), process), run, options=RunnerOptions(poll=60.0))
    asking.join(WITHIN)
    assert (report.status, report.counts) == (RunStatus.PAUSED, Counts(pending=1))


def test_planning_stops_with_the_run_and_goes_on_when_it_comes_back(bench: Bench) -> None:
    run, control = bench.new_run(), RunControl()

    class AskedWhilePlanning(Plain):
        def plan(self, run: Run) -> Iterator[ItemSpec]:
            for number, spec in enumerate(super().plan(run)):
                if number == 150:
                    bench.store.request(run.run_id, RunRequest.CANCEL)
                    assert control.stopping.wait(WITHIN)
                yield spec

    first = AskedWhilePlanning(numbered(240), succeed)
    report = bench.run(first, run, control=control)
    assert (report.status, report.counts.open) == (RunStatus.CANCELLED, 0)
    stored = bench.store.get_run(run.run_id)
    assert (stored.planning_complete, stored.planned) == (False, report.counts.total)
    assert report.counts.total <= 150

    retry_items(bench.db, run.run_id, Chosen(cancelled=True))
    second = Plain(numbered(240), succeed)
    assert bench.run(second, run).counts == Counts(succeeded=240)
    assert len(first.calls) + len(second.calls) == 240


def test_a_plan_whose_last_batches_were_refused_is_not_complete(bench: Bench) -> None:
    """Asked so late that the session has not seen it when its plan ends."""
    run = bench.new_run()

    class AskedAtTheEnd(Plain):
        def plan(self, run: Run) -> Iterator[ItemSpec]:
            for number, spec in enumerate(super().plan(run)):
                if number == 39:
                    bench.store.request(run.run_id, RunRequest.CANCEL)
                yield spec

    report = bench.run(AskedAtTheEnd(numbered(40), succeed), run)
    assert report.status is RunStatus.CANCELLED
    assert not bench.store.get_run(run.run_id).planning_complete
    retry_items(bench.db, run.run_id, Chosen(cancelled=True))
    assert bench.run(Plain(numbered(40), succeed), run).counts == Counts(succeeded=40)


@pytest.mark.parametrize("is_error", [False, True])
def test_to_cancel_wins_over_an_interruption_and_over_an_error(bench: Bench, *, is_error: bool) -> None:
    run, control = bench.new_run(), RunControl()

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.key == "item-2":
            bench.store.request(run.run_id, RunRequest.CANCEL)
            if is_error:
                raise AuthenticationFailed("no")
            control.stop("interrupted")
        if not is_error and claim.position[0] > 2:
            assert control.stopping.wait(WITHIN)
        return Outcome()

    report = bench.run(Plain(numbered(30), process), run, control=control)
    assert (report.status, report.counts.open) == (RunStatus.CANCELLED, 0)
    assert (report.error is not None) == is_error
    assert bench.store.get_run(run.run_id).status is RunStatus.CANCELLED


@pytest.mark.parametrize("request_", RunRequest)
def test_a_run_whose_last_item_was_in_hand_has_succeeded(bench: Bench, request_: RunRequest) -> None:
    run, control = bench.new_run(), RunControl()

    def process(_claim: Claim, _context: AttemptContext) -> Outcome:
        while not bench.store.get_run(run.run_id).planning_complete:
            pass
        bench.store.request(run.run_id, request_)
        assert control.stopping.wait(WITHIN)
        return Outcome()

    assert bench.run(Plain(numbered(1), process), run, control=control).status is RunStatus.SUCCEEDED
    assert bench.store.requested(run.run_id) is None
    with pytest.raises(StateConflict, match="ended already: succeeded"):
        bench.store.request(run.run_id, request_)


class FromOneMomentOn(list[Event]):
    """Keeps events of a session, which goes on from its start only together with another one."""

    def __init__(self, both: threading.Barrier) -> None:
        super().__init__()
        self._both = both

    def append(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._both.wait(WITHIN)
        super().append(event)


@pytest.mark.parametrize("request_", RunRequest)
def test_two_sessions_of_a_run_both_stop(db: ThreadSafeDatabaseManager, request_: RunRequest) -> None:
    both = threading.Barrier(2)
    bench, other = (Bench(db, lambda: ThreadsExecutor(3), FromOneMomentOn(both)) for _ in range(2))
    run = bench.new_run()
    asked = Asked(bench, run, request_, at=20)
    controls = asked.controls = [RunControl(), RunControl()]
    reports: list[RunReport] = []
    workflow = Plain(numbered(400), asked)

    def work(bench: Bench, control: RunControl) -> None:
        reports.append(bench.run(workflow, run, control=control, options=RunnerOptions(poll=0.05)))

    threads = [threading.Thread(target=work, args=pair) for pair in zip((bench, other), controls, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN)
    assert [control.request for control in controls] == [request_, request_]
    settled = RunStatus.PAUSED if request_ is RunRequest.PAUSE else RunStatus.CANCELLED
    assert bench.store.get_run(run.run_id).status is settled
    assert bench.store.counts(run.run_id).running == 0
    assert asked.after <= 2 * 3
    assert {report.status for report in reports} <= {settled, RunStatus.RUNNING}


def test_a_run_asks_for_its_permits_with_its_priority(bench: Bench) -> None:
    new = NewRun("plain", {}, {}, bench.make_executor().mode, "a test", priority=Priority.LOW)
    seen: list[object] = []

    def process(_claim: Claim, context: AttemptContext) -> Outcome:
        assert isinstance(context, Context)
        seen.append(context._turn)
        return Outcome()

    run = bench.store.create_run(new)
    assert bench.run(Plain(numbered(1), process), run).status is RunStatus.SUCCEEDED
    assert seen == [Turn(run.run_id, Priority.LOW)]
