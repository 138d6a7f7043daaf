"""Runs a run: plans, claims, hands to workers, finishes, reports. The same path for every executor."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from threading import Event as ThreadEvent
from threading import Lock, Thread, local

from thresher.core.correlation import Correlation, carried, correlated
from thresher.core.errors import BudgetExhausted, DatabaseUnavailable, StateConflict, ThresherError, own_words
from thresher.core.logging import get_logger
from thresher.engine.attempt import SUSPECT, Attempts, Unwritten
from thresher.engine.batch import GroupAttempts
from thresher.engine.control import RunControl
from thresher.engine.executors.port import Executor, ModeUnavailable
from thresher.engine.fallbacks import Fallbacks
from thresher.engine.gate import Resources
from thresher.engine.ledger import Ledger
from thresher.engine.modes import ENOUGH_TO_DECIDE, Decision, Modes, decide, mode_after
from thresher.engine.ownership import is_dead, this_process
from thresher.engine.patience import patient
from thresher.engine.planner import Planner
from thresher.engine.ports import BatchWorkflow, Store, Workflow
from thresher.engine.progress import (
    Event,
    FellBack,
    ItemFinished,
    Listener,
    RunFinished,
    RunStarted,
    RunStopping,
    Tally,
)
from thresher.engine.reports import failure_of
from thresher.engine.requests import requests_heeded
from thresher.engine.retry import RetryPolicy
from thresher.engine.run_log import RunLog
from thresher.engine.shares import Account
from thresher.engine.work import (
    SINGLE,
    Claim,
    Completion,
    Counts,
    Fallback,
    ItemStatus,
    JsonObject,
    Mode,
    RunReport,
    RunRequest,
    RunStatus,
)

log = get_logger(__name__)

SETTLE_WITHIN = 0.02  # seconds for which the end of an attempt waits for others, at most


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
        executor: Executor | Modes,
        listeners: Sequence[Listener] = (),
        control: RunControl | None = None,
    ) -> RunReport:
        """Works on a run until it is finished or stopped; begins it, or goes on where it was left.

        With ``Modes`` the mode is decided as they say, and another takes over where one cannot work.

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


class _Left:
    """What a thread has left to be written, and until when that may wait."""

    def __init__(self) -> None:
        self.completions: list[Completion] = []
        self.until = 0.0


class _OfThread(local):
    """What belongs to each thread."""

    def __init__(self) -> None:
        self.left = _Left()


class _Session:
    """One session of a run: from a start or resume to its end, interruption or failure."""

    def __init__(
        self,
        runner: Runner,
        run_id: str,
        executor: Executor | Modes,
        listeners: tuple[Listener, ...],
        control: RunControl,
    ) -> None:
        self._started = time.monotonic()
        self._store = patient(runner.store, control.stopping)
        self._options = runner.options
        self._listeners = listeners
        self._listening = Lock()  # listeners are called one at a time
        self._early: list[Event] | None = []  # what happens before the start is told, None from then on
        self._control = control
        self._owner = this_process()
        self._held: dict[int, Claim] = {}  # leased by this session and not yet ended
        self._take_up(run_id)
        workflow = runner.workflow
        self._modes = executor if isinstance(executor, Modes) else Modes.fixed(executor, self._run.mode_reason)
        self._decision = Decision(self._run.mode, self._run.mode_reason)
        self._executor: Executor | None = None
        self._fallbacks = Fallbacks(self._run.fallbacks)
        counts, complete = self._counts(), self._run.planning_complete
        self._tally = Tally(counts, planning_complete=complete, workers=1)
        self._of_thread = _OfThread()
        self._attempts = self._attempts_of(runner)
        self._batching = workflow if isinstance(workflow, BatchWorkflow) else None
        self._groups = GroupAttempts(self._attempts, self._batching, self._single) if self._batching else None
        self._planner = Planner(self._store, workflow, self._run, self._tally, self._options.ahead)

    def _attempts_of(self, runner: Runner) -> Attempts:
        return Attempts(
            *(self._store, runner.workflow, self._options.retry, self._control, runner.resources),
            ledger=self._ledger(),
            before_wait=lambda: partial(self._before_wait, self._of_thread.left),
        )

    def _take_up(self, run_id: str) -> None:
        self._run = self._store.get_run(run_id)
        self._control.heed(self._run.requested)
        self._recover()
        self._resumed = self._run.started_at is not None
        self._store.set_run_status(run_id, RunStatus.RUNNING)

    @property
    def in_hand(self) -> int:
        """Attempts under way."""
        return self._attempts.in_hand

    def work(self) -> RunReport:
        """The whole session."""
        wished = self._modes.wish.mode
        try:
            if wished is not None:
                self._begin(Decision(wished, self._modes.wish.reason))
            first = self._executor is not None and self._executor.plans_first
            with self._kept_and_heeded(), self._planner.running(self._control, self._tell_or_wait, first=first):
                if wished is None:
                    self._begin(self._decided())
                self._loop()
                self._drain()
        except BaseException as error:
            self._abandon(error)
            raise
        self._close(wait=True)
        return self._end()

    # -- the mode -------------------------------------------------------------------------------------------

    def _decided(self) -> Decision:
        """``auto``: what the beginning of the plan speaks for."""
        self._planner.wait_for_first(ENOUGH_TO_DECIDE, self._control)
        items = self._tally.unfinished
        return decide(items, are_all=self._planner.complete, obstacle=self._obstacle())

    def _obstacle(self) -> str | None:
        """Why items are not processed together, None where they can be."""
        if self._batching is None:
            return f"{self._run.kind} takes one at a time"
        return self._batching.batch_obstacle(self._run)

    def _begin(self, decision: Decision) -> None:
        """Starts the executor of a mode, and tells that the session has begun."""
        obstacle = self._obstacle() if decision.mode is Mode.BATCH else None
        instead = None
        if obstacle is not None and self._modes.falls_back:
            instead = Fallback(Mode.BATCH, Mode.SEQUENTIAL, obstacle)
            decision = Decision(Mode.SEQUENTIAL, f"{decision.reason}, but {obstacle}")
        executor = self._set_mode(decision, threads=True)
        started = RunStarted(self._run, executor.mode, executor.workers, self._resumed, self._tally.snapshot())
        self._emit(replace(started, run=replace(self._run, mode=decision.mode, mode_reason=decision.reason)))
        if instead is not None:
            self._note(replace(instead, items=self._tally.unfinished))
        self._tell_early()

    def _set_mode(self, decision: Decision, *, threads: bool) -> Executor:
        executor = self._executor = self._modes.make(decision.mode, threads)
        if decision != self._decision:
            self._store.set_run_mode(self._run.run_id, decision.mode, decision.reason)
        self._decision = decision
        self._tally.work_with(lambda: executor.at_work)
        executor.start(self._work_in_place, self._settle, self._control.wake)
        return executor

    def _fall_back(self, before: Mode, error: ModeUnavailable) -> None:
        """The next mode takes over what is still open.

        Raises:
            ModeUnavailable: there is none.
        """
        after = mode_after(before, self._obstacle()) if self._modes.falls_back else None
        if after is None:
            raise error
        self._set_mode(Decision(after, f"{before} cannot work here: {error}"), threads=False)
        self._note(Fallback(before, after, str(error), self._tally.unfinished))

    def _single(self, _claim: Claim, error: Exception) -> None:
        """An item that a group did not answer is processed alone."""
        self._note(Fallback(Mode.BATCH, SINGLE, str(error) or type(error).__name__, 1))

    def _note(self, fallback: Fallback) -> None:
        """Counts a fallback; what has not happened yet in this run is stored and told at once."""
        if self._fallbacks.add(fallback):
            self._store.set_fallbacks(self._run.run_id, self._fallbacks.all())
            self._emit(FellBack(self._run.run_id, fallback))

    def _close(self, *, wait: bool) -> None:
        if self._executor is not None:
            self._executor.close(wait=wait)

    def _ledger(self) -> Ledger:
        """This session's share of the run's budget, of which earlier sessions have spent something.

        Raises:
            StateConflict: what they have spent is unknown in the unit of the budget, or others are at work that do
                not keep it.
        """
        run, budget = self._run, self._run.budget
        if budget is None:
            return Ledger()
        spent = self._store.totals(run.run_id).usage.spent_at_most
        if budget.atoms_of(spent) is None:
            raise StateConflict(
                f"A budget of {budget} cannot be kept: what run {run.run_id} has spent so far is unknown in USD."
            ).with_hint("Give --budget in tokens, or --budget none.")
        return Ledger(budget, spent, Account(self._store, run.run_id, self._owner, budget, self._options.lease))

    def _counts(self) -> Counts:
        """The store's counts, items running elsewhere seen as pending."""
        counts = self._store.counts(self._run.run_id)
        return Counts(counts.open, 0, counts.succeeded, counts.skipped, counts.dead, counts.cancelled)

    # -- the loop -------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        """Claims and submits until nothing is open or the run is to stop."""
        while not self._control.stopping.is_set():
            room = self._working.room()
            claims = self._claimed(room) if room else ()
            self._submit(claims)
            if claims:
                continue
            if room and self._nothing_open():
                return
            self._attempts.rest()
            self._control.wait(self._time_to_wait(room))
            self._recover_now_and_then()

    def _claimed(self, room: int) -> Sequence[Claim]:
        """Nothing where the store was away; what it may have claimed all the same, untold, is given back."""
        try:
            return self._store.claim(self._run.run_id, self._owner, room, self._options.lease)
        except DatabaseUnavailable:
            self._store.release_all(self._run.run_id, self._owner, but=tuple(self._held))
            return ()

    def _submit(self, claims: Sequence[Claim]) -> None:
        """Hands claims to the workers, in groups; on an executor that cannot work they go to the next one."""
        self._held.update((claim.item_id, claim) for claim in claims)
        left = deque(self._cut(claims))
        while left:
            if self._control.stopping.is_set():
                self._give_back([claim for group in left for claim in group])
                return
            executor = self._working
            try:
                executor.submit(left[0])
            except ModeUnavailable as error:
                self._fall_back(executor.mode, error)
                left = deque(self._cut([claim for group in left for claim in group]))
            else:
                left.popleft()

    def _give_back(self, claims: Sequence[Claim]) -> None:
        self._store.release(claims)
        for claim in claims:
            self._held.pop(claim.item_id, None)

    def _cut(self, claims: Sequence[Claim]) -> Iterable[Sequence[Claim]]:
        if self._working.mode is not Mode.BATCH or self._batching is None or len(claims) == 1:
            return [(claim,) for claim in claims]
        alone = [claim for claim in claims if claim.losses >= SUSPECT]
        together = [claim for claim in claims if claim.losses < SUSPECT]
        return [*((claim,) for claim in alone), *self._batching.batches(together, self._run)]

    @property
    def _working(self) -> Executor:
        if self._executor is None:
            raise RuntimeError("no mode is decided yet")
        return self._executor

    def _nothing_open(self) -> bool:
        if self._working.in_hand() or not self._planner.complete:
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
        while self._working.in_hand():
            self._control.wait(self._options.poll)

    def _abandon(self, error: BaseException) -> None:
        """Something broke the session itself: leave the run resumable, without waiting for anything."""
        if not isinstance(error, KeyboardInterrupt):
            self._control.fail(error)
        self._control.stop("interrupted")
        self._close(wait=False)
        try:
            self._end()
        except ThresherError as failure:
            if str(failure) != str(error):
                log.warning("run not marked as stopped", error=type(failure).__name__, reason=own_words(failure))

    def _end(self) -> RunReport:
        """Gives back what is still held, does what was asked of the run, stores the report and tells it."""
        self._store.release(tuple(self._held.values()))
        self._attempts.close()
        asked = self._store.settle(self._run.run_id)  # None where it was taken back while this session stopped for it
        self._control.heed(asked)
        report = self._report(self._run.run_id, asked)
        self._store.end_run(report)
        self._emit(RunFinished(report))
        return report

    # -- items ----------------------------------------------------------------------------------------------

    def _work_in_place(self, claims: Sequence[Claim]) -> None:
        """A group of claims to its end, their run, numbers and attempts in every line that is logged meanwhile."""
        if len(claims) > 1:
            self._work_on(claims)  # each of the group has a place of its own
            return
        claim = claims[0]
        with correlated(Correlation(claim.run_id, item=claim.item_id, attempt=claim.attempt)):
            self._work_on(claims)

    def _work_on(self, claims: Sequence[Claim]) -> None:
        """A group of claims to its end; called by the executor, in a worker thread or in this one."""
        try:
            self._look_before_the_next()
            for claim, completion in self._made(claims):
                if isinstance(completion, Unwritten):
                    self._write_later(completion.completion)
                else:
                    self._ended(claim, completion)
        except ThresherError as error:
            self._control.fail(error)  # the store's own words say it all, and say it once
        except Exception as error:
            log.exception("attempt not stored")
            self._control.fail(error)

    def _look_before_the_next(self) -> None:
        """Whoever writes the end of an attempt learns what the run is asked to do; who has left that for later asks.

        So a thread begins one item at most after the run was asked: the one it has looked, or written, before.
        """
        if self._of_thread.left.completions:
            with suppress(DatabaseUnavailable):  # which is met by what is written next
                self._control.heed(self._store.asked(self._run.run_id))

    def _write_later(self, completion: Completion) -> None:
        """Keeps the end of an attempt for a moment, as this thread's next ones may be written with it."""
        left = self._of_thread.left
        if not left.completions:
            left.until = time.monotonic() + SETTLE_WITHIN
        left.completions.append(completion)
        if time.monotonic() > left.until:
            self._settle()

    def _settle(self) -> None:
        """Writes the ends of attempts that this thread has left; called by it before it waits for anything."""
        self._settle_all(self._of_thread.left)

    def _before_wait(self, left: _Left) -> None:
        """An attempt waits next, of the thread that left this (it may wait for another, which sends its request)."""
        self._working.about_to_wait()
        self._settle_all(left)

    def _settle_all(self, left: _Left) -> None:
        """Writes what a thread has left."""
        completions = left.completions
        if not completions:
            return
        left.completions = []
        try:
            for before, written in zip(completions, self._attempts.write_all(completions), strict=True):
                claim = before.claim
                with correlated(Correlation(claim.run_id, item=claim.item_id, attempt=claim.attempt)):
                    self._ended(claim, written)
        except ThresherError as error:
            self._control.fail(error)
        except Exception as error:
            log.exception("attempts not stored")
            self._control.fail(error)

    def _made(self, claims: Sequence[Claim]) -> Iterator[tuple[Claim, Completion | Unwritten | None]]:
        if self._groups is not None and len(claims) > 1:
            yield from self._groups.make(claims, self._run)
            return
        for claim in claims:
            yield claim, self._attempts.make(claim, self._run)

    def _ended(self, claim: Claim, completion: Completion | None) -> None:
        self._held.pop(claim.item_id, None)
        if completion is None:
            return
        self._tell(completion)
        if completion.status is ItemStatus.PENDING or completion.outcome.children:
            self._control.wake()  # there is something to claim that was not there before

    def _tell(self, done: Completion) -> None:
        committed_at, record = time.time(), done.attempt
        children = done.outcome.children
        if children:
            skipped = sum(1 for child in children if child.skip_reason is not None)
            self._tally.planned(len(children) - skipped, skipped)
        snapshot = self._tally.ended(done.status, record.duration, record.usage, record.error_class)
        self._planner.wake(snapshot.counts.open)
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
                committed_at=committed_at,
            )
        )

    def _tell_or_wait(self, event: Event) -> None:
        """Tells what the planner has done, after the start of the session."""
        with self._listening:
            if self._early is not None:
                self._early.append(event)
                return
        self._emit(event)

    def _tell_early(self) -> None:
        while True:
            with self._listening:
                if not self._early:
                    self._early = None
                    return
                event = self._early.pop(0)
            self._emit(event)

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
        try:
            keeper.start()
        except (RuntimeError, MemoryError) as error:
            log.warning("thread not started", purpose="leases", error=type(error).__name__, reason=str(error))
            yield
            return
        try:
            yield
        finally:
            ended.set()
            keeper.join()

    def _recover(self) -> None:
        self._last_recovery = time.monotonic()
        found = self._store.recover(self._run.run_id, is_dead, self._options.max_losses, but=self._owner)
        if found:
            log.info("items taken back", items=found)

    def _recover_now_and_then(self) -> None:
        if time.monotonic() - self._last_recovery > self._options.lease / 4:
            self._recover()

    # -- the end --------------------------------------------------------------------------------------------

    def _report(self, run_id: str, asked: RunRequest | None) -> RunReport:
        counts = self._store.counts(run_id)
        totals = self._store.totals(run_id)
        earlier = (self._run.report or {}).get("peak_concurrency", 0)
        return RunReport(
            run_id=run_id,
            status=self._status(counts, asked),
            mode=self._decision.mode,
            mode_reason=self._decision.reason,
            counts=counts,
            usage=totals.usage,
            elapsed_seconds=self._run.elapsed_seconds + time.monotonic() - self._started,
            item_seconds_sum=totals.item_seconds,
            peak_concurrency=max(self._attempts.peak, earlier if isinstance(earlier, int) else 0),
            errors=totals.errors,
            error=self._error(),
            fallbacks=self._fallbacks.all(),
        )

    def _status(self, counts: Counts, asked: RunRequest | None) -> RunStatus:
        unfinished = counts.open > 0 or not self._planner.complete
        if asked is RunRequest.CANCEL and (unfinished or counts.cancelled):
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
        return None if error is None else failure_of(error)
