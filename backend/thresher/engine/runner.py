"""Runs a run: plans, claims, hands to workers, finishes, reports. The same path for every executor."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event as ThreadEvent
from threading import Lock, Thread

from thresher.core.correlation import Correlation, carried, correlated
from thresher.core.errors import BudgetExhausted, StateConflict, ThresherError, own_words
from thresher.core.logging import get_logger
from thresher.engine.attempt import Attempts
from thresher.engine.budget import Spending
from thresher.engine.control import RunControl
from thresher.engine.executors.port import Executor
from thresher.engine.gate import Resources
from thresher.engine.ledger import Ledger
from thresher.engine.ownership import is_dead, this_process
from thresher.engine.planner import Planner
from thresher.engine.ports import Store, Workflow
from thresher.engine.progress import Event, ItemFinished, Listener, RunFinished, RunStarted, RunStopping, Tally
from thresher.engine.requests import requests_heeded
from thresher.engine.retry import RetryPolicy
from thresher.engine.run_log import RunLog
from thresher.engine.work import Claim, Completion, Counts, ItemStatus, JsonObject, RunReport, RunRequest, RunStatus

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a runner works.

    ``lease``: seconds after which another process may take an item of a silent one. ``max_losses``: how many
    processes may end in an item before it is held to be the cause. ``ahead``: how many unfinished items the
    plan may be ahead of the work. ``poll``: the longest wait in seconds before looking at the store again.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    lease: float = 60.0
    max_losses: int = 10
    ahead: int = 1000
    poll: float = 1.0


class Runner:
    """Brings runs of one workflow to their end, one session at a time.

    Several runners, also of several processes and machines, may work on the same run: no item is worked on
    twice at once.
    """

    def __init__(
        self,
        store: Store,
        workflow: Workflow,
        options: RunnerOptions | None = None,
        resources: Resources | None = None,
    ) -> None:
        self.store = store
        self.workflow = workflow
        self.options = options or RunnerOptions()
        self.resources = resources or Resources()
        self._sessions: set[_Session] = set()

    def run(
        self,
        run_id: str,
        executor: Executor,
        listeners: Sequence[Listener] = (),
        control: RunControl | None = None,
    ) -> RunReport:
        """Works on a run until it is finished or stopped; begins it, or goes on where it was left.

        A run that is asked to pause or to cancel, by whatever process, is stopped like by ``control``; one that is
        still asked to from earlier stops at once (``Store.withdraw`` takes a request back).

        Raises:
            NotFound: no such run.
            StateConflict: the run is cancelled.
            KeyboardInterrupt: asked twice to stop; the run is paused, items in hand are pending again.
            ThresherError: the store itself failed.
        """
        with correlated(Correlation(run_id)):
            session = _Session(self, run_id, executor, (RunLog(), *listeners), control or RunControl())
            self._sessions.add(session)
            try:
                return session.work()
            finally:
                self._sessions.discard(session)

    @property
    def in_hand(self) -> int:
        """Attempts under way, of all runs."""
        return sum(session.in_hand for session in tuple(self._sessions))


class _Session:
    """One session of a run: from a start or resume to its end, interruption or failure."""

    def __init__(
        self, runner: Runner, run_id: str, executor: Executor, listeners: tuple[Listener, ...], control: RunControl
    ) -> None:
        self._started = time.monotonic()
        self._store = runner.store
        self._options = runner.options
        self._executor = executor
        self._listeners = listeners
        self._listening = Lock()  # listeners are called one at a time
        self._control = control
        self._owner = this_process()
        self._held: dict[int, Claim] = {}  # leased by this session and not yet ended
        self._run = self._store.get_run(run_id)
        if self._run.status is RunStatus.CANCELLED:
            raise StateConflict(f"Run {run_id} is cancelled.")
        control.heed(self._run.requested)
        ledger = self._ledger()
        self._recover()
        self._resumed = self._run.started_at is not None
        self._store.set_run_status(run_id, RunStatus.RUNNING)
        workflow = runner.workflow
        counts, complete = self._counts(), self._run.planning_complete
        self._tally = Tally(counts, planning_complete=complete, workers=executor.workers)
        self._attempts = Attempts(self._store, workflow, self._options.retry, control, runner.resources, ledger=ledger)
        self._planner = Planner(self._store, workflow, self._run, self._tally, self._options.ahead)

    @property
    def in_hand(self) -> int:
        """Attempts under way."""
        return self._attempts.in_hand

    def work(self) -> RunReport:
        """The whole session."""
        executor = self._executor
        self._emit(RunStarted(self._run, executor.mode, executor.workers, self._resumed, self._tally.snapshot()))
        executor.start(self._work_in_place, self._control.wake)
        try:
            with self._kept_and_heeded(), self._planner.running(self._control, self._emit, first=executor.plans_first):
                self._loop()
                self._drain()
        except BaseException as error:
            self._abandon(error)
            raise
        executor.close(wait=True)
        return self._end()

    def _ledger(self) -> Ledger:
        """The run's budget, less what its earlier sessions have spent.

        Raises:
            StateConflict: what they have spent is unknown in the unit of the budget.
        """
        run, budget = self._run, self._run.budget
        if budget is None:
            return Ledger()
        usage = self._store.totals(run.run_id).usage
        spent = Spending(usage.prompt_tokens + usage.completion_tokens, usage.cost_usd)
        if budget.atoms_of(spent) is None:
            raise StateConflict(
                f"A budget of {budget} cannot be kept: what run {run.run_id} has spent so far is unknown in USD. "
                "Give --budget in tokens, or --budget none."
            )
        return Ledger(budget, spent)

    def _counts(self) -> Counts:
        """The store's counts, items running elsewhere seen as pending."""
        counts = self._store.counts(self._run.run_id)
        return Counts(counts.open, 0, counts.succeeded, counts.skipped, counts.dead, counts.cancelled)

    # -- the loop -------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        """Claims and submits until nothing is open or the run is to stop."""
        while not self._control.stopping.is_set():
            room = self._executor.room()
            claims = self._store.claim(self._run.run_id, self._owner, room, self._options.lease) if room else ()
            self._submit(claims)
            if claims:
                continue
            if room and self._nothing_open():
                return
            self._control.wait(self._time_to_wait(room))
            self._recover_now_and_then()

    def _submit(self, claims: Sequence[Claim]) -> None:
        for number, claim in enumerate(claims):
            if self._control.stopping.is_set():
                self._store.release(claims[number:])
                return
            self._held[claim.item_id] = claim
            self._executor.submit(claim)

    def _nothing_open(self) -> bool:
        if self._executor.in_hand() or not self._planner.complete:
            return False
        return self._store.next_due(self._run.run_id) is None

    def _time_to_wait(self, room: int) -> float:
        """Until the next item is due; what makes more to do before that wakes the loop."""
        if not room:
            return self._options.poll
        due = self._store.next_due(self._run.run_id)
        if due is None:
            return self._options.poll
        return min(max((due - datetime.now(UTC)).total_seconds(), 0.01), self._options.poll)

    def _drain(self) -> None:
        """After a stop: waits for what is in hand."""
        if not self._control.stopping.is_set():
            return
        control, in_hand = self._control, self._attempts.in_hand
        self._emit(RunStopping(self._run.run_id, control.reason or "", in_hand, control.request))
        while self._executor.in_hand():
            self._control.wait(self._options.poll)

    def _abandon(self, error: BaseException) -> None:
        """Something broke the session itself: leave the run resumable, without waiting for anything."""
        if not isinstance(error, KeyboardInterrupt):
            self._control.fail(error)
        self._control.stop("interrupted")
        self._executor.close(wait=False)
        try:
            self._end()
        except ThresherError as failure:
            if str(failure) != str(error):
                log.warning("run not marked as stopped", error=type(failure).__name__, reason=own_words(failure))

    def _end(self) -> RunReport:
        """Gives back what is still held, does what was asked of the run, stores the report and tells it."""
        self._store.release(tuple(self._held.values()))
        self._control.heed(self._store.settle(self._run.run_id))
        report = self._report(self._run.run_id)
        self._store.end_run(report)
        self._emit(RunFinished(report))
        return report

    # -- items ----------------------------------------------------------------------------------------------

    def _work_in_place(self, claim: Claim) -> None:
        """One claim to its end, its run, number and attempt in every line that is logged meanwhile."""
        with correlated(Correlation(claim.run_id, item=claim.item_id, attempt=claim.attempt)):
            self._work_on(claim)

    def _work_on(self, claim: Claim) -> None:
        """One claim to its end; called by the executor, in a worker thread or in this one."""
        try:
            completion = self._attempts.make(claim, self._run)
        except ThresherError as error:
            self._control.fail(error)  # the store's own words say it all, and say it once
            return
        except Exception as error:
            log.exception("attempt not stored")
            self._control.fail(error)
            return
        self._held.pop(claim.item_id, None)
        if completion is None:
            return
        self._tell(completion)
        if completion.status is ItemStatus.PENDING or completion.outcome.children:
            self._control.wake()  # there is something to claim that was not there before

    def _tell(self, done: Completion) -> None:
        record = done.attempt
        children = done.outcome.children
        if children:
            skipped = sum(1 for child in children if child.skip_reason is not None)
            self._tally.planned(len(children) - skipped, skipped)
        snapshot = self._tally.ended(done.status, record.duration, record.usage, record.error_class)
        self._planner.wake()
        self._emit(
            ItemFinished(
                run_id=done.claim.run_id,
                key=done.claim.key,
                status=done.status,
                duration=record.duration,
                error_class=record.error_class,
                error_message=record.error_message,
                result=done.outcome.result,
                snapshot=snapshot,
                item=done.claim.item_id,
                attempt=record.number,
                stage=done.claim.stage,
                started_at=record.started_at,
                usage=record.usage,
            )
        )

    def _emit(self, event: Event) -> None:
        """Tells every listener; one that fails is logged and does not disturb the run."""
        with self._listening:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    log.exception("progress listener failed", about=type(event).__name__)

    # -- leases ---------------------------------------------------------------------------------------------

    @contextmanager
    def _kept_and_heeded(self) -> Iterator[None]:
        with self._leases_kept(), requests_heeded(self._store, self._run.run_id, self._control):
            yield

    @contextmanager
    def _leases_kept(self) -> Iterator[None]:
        """Renews this process's leases in a thread of its own while inside."""
        ended = ThreadEvent()

        def keep() -> None:
            while not ended.wait(self._options.lease / 3):
                try:
                    self._store.renew(self._owner, self._options.lease)
                except ThresherError as failure:
                    log.warning("leases not renewed", error=type(failure).__name__, reason=own_words(failure))

        keeper = Thread(target=carried(keep), name="thresher-leases", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()

    def _recover(self) -> None:
        self._last_recovery = time.monotonic()
        found = self._store.recover(self._run.run_id, is_dead, self._options.max_losses)
        if found:
            log.info("items taken back", items=found)

    def _recover_now_and_then(self) -> None:
        if time.monotonic() - self._last_recovery > self._options.lease / 4:
            self._recover()

    # -- the end --------------------------------------------------------------------------------------------

    def _report(self, run_id: str) -> RunReport:
        counts = self._store.counts(run_id)
        totals = self._store.totals(run_id)
        earlier = (self._run.report or {}).get("peak_concurrency", 0)
        return RunReport(
            run_id=run_id,
            status=self._status(counts),
            mode=self._executor.mode,
            mode_reason=self._run.mode_reason,
            counts=counts,
            usage=totals.usage,
            elapsed_seconds=self._run.elapsed_seconds + time.monotonic() - self._started,
            item_seconds_sum=totals.item_seconds,
            peak_concurrency=max(self._attempts.peak, earlier if isinstance(earlier, int) else 0),
            errors=totals.errors,
            error=self._error(),
        )

    def _status(self, counts: Counts) -> RunStatus:
        unfinished = counts.open > 0 or not self._planner.complete
        if self._control.request is RunRequest.CANCEL and (unfinished or counts.cancelled):
            return RunStatus.RUNNING if counts.running else RunStatus.CANCELLED
        if self._control.error is not None and not isinstance(self._control.error, BudgetExhausted):
            return RunStatus.FAILED
        if unfinished:  # what runs now is in another session's hand, and the last one out says how the run ended
            return RunStatus.RUNNING if counts.running else RunStatus.PAUSED
        if counts.cancelled:
            return RunStatus.CANCELLED
        if counts.dead:
            return RunStatus.PARTIAL if counts.succeeded else RunStatus.FAILED
        return RunStatus.SUCCEEDED

    def _error(self) -> JsonObject | None:
        error = self._control.error
        return None if error is None else {"class": type(error).__name__, "message": str(error)}
