"""What every executor does, whatever the workflow: the laws of the engine."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from contract_support import Bench, Plain, numbered

from thresher.core.errors import (
    AuthenticationFailed,
    MalformedDocument,
    PermanentLLMError,
    RateLimited,
    TransientLLMError,
)
from thresher.engine.admission import ResourceLimits
from thresher.engine.control import RunControl
from thresher.engine.executors.crew import Crew
from thresher.engine.executors.sequential import SequentialExecutor
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.gate import Resources
from thresher.engine.ports import AttemptContext
from thresher.engine.progress import ItemFinished, ItemsPlanned, RunFinished, RunStarted, Snapshot
from thresher.engine.retry import RetryPolicy
from thresher.engine.runner import Runner, RunnerOptions
from thresher.engine.work import AttemptStatus, Claim, ItemSpec, ItemStatus, Outcome, Run, RunStatus, Usage
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.items import attempts_of, dead_letters, stream_items
from thresher.persistence.repositories.store import SqlStore


def succeed(claim: Claim, _context: AttemptContext) -> Outcome:
    return Outcome(result={"key": claim.key})


def finished_keys(bench: Bench, run_id: str) -> list[str]:
    return [item.key for item in stream_items(bench.db, run_id) if item.status is ItemStatus.SUCCEEDED]


def test_every_item_is_processed_once_and_results_are_in_source_order(bench: Bench) -> None:
    workflow = Plain(list(reversed(numbered(40))), succeed)
    report = bench.run(workflow)
    assert report.status is RunStatus.SUCCEEDED
    assert sorted(workflow.calls) == sorted(spec.key for spec in workflow.items)
    assert finished_keys(bench, report.run_id) == [f"item-{number}" for number in range(40)]
    assert report.counts.succeeded == report.counts.total == 40


def test_sequential_is_in_document_order_in_the_calling_thread(bench: Bench) -> None:
    threads = set()

    def note_thread(_claim: Claim, _context: AttemptContext) -> Outcome:
        threads.add(threading.current_thread())
        return Outcome()

    workflow = Plain(list(reversed(numbered(12))), note_thread)
    report = bench.run(workflow)
    if isinstance(bench.make_executor(), SequentialExecutor):
        assert workflow.calls == [f"item-{number}" for number in range(12)]
        assert threads == {threading.current_thread()}
        assert report.peak_concurrency == 1
    else:
        assert threading.current_thread() not in threads


def test_one_bad_item_does_not_stop_its_siblings(bench: Bench) -> None:
    def process(claim: Claim, context: AttemptContext) -> Outcome:
        if claim.key == "item-3":
            context.keep_answer("not what was asked for")
            context.record_usage(Usage(requests=1, prompt_tokens=7, cost_usd=0.5))
            raise PermanentLLMError("cannot be read")
        return Outcome()

    report = bench.run(Plain(numbered(10), process))
    assert report.status is RunStatus.PARTIAL
    assert (report.counts.succeeded, report.counts.dead) == (9, 1)
    assert report.errors == {"PermanentLLMError": 1}
    assert report.usage.cost_usd == pytest.approx(0.5)
    (dead,) = dead_letters(bench.db, report.run_id)
    assert (dead.key, dead.error_class, dead.error_message) == ("item-3", "PermanentLLMError", "cannot be read")
    assert dead.raw_answer == "not what was asked for"


def test_none_succeeded_is_a_failed_run(bench: Bench) -> None:
    def process(_claim: Claim, _context: AttemptContext) -> Outcome:
        raise PermanentLLMError("no")

    assert bench.run(Plain(numbered(3), process)).status is RunStatus.FAILED


def test_permanent_errors_and_defects_are_not_retried(bench: Bench) -> None:
    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.key == "item-0":
            raise PermanentLLMError("no")
        if claim.key == "item-1":
            raise ZeroDivisionError
        return Outcome()

    workflow = Plain(numbered(3), process)
    report = bench.run(workflow)
    assert Counter(workflow.calls) == {"item-0": 1, "item-1": 1, "item-2": 1}
    assert report.errors == {"PermanentLLMError": 1, "ZeroDivisionError": 1}


def test_transient_errors_are_retried_within_the_bound(bench: Bench) -> None:
    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.key == "item-0" or (claim.key == "item-1" and claim.failures < 2):
            raise TransientLLMError("try again")
        return Outcome()

    workflow = Plain(numbered(3), process)
    report = bench.run(workflow)
    alone = sum(fallback.items for fallback in report.fallbacks)  # its last try, where that was in the other's company
    assert alone in {0, 1}
    assert Counter(workflow.calls) == {"item-0": 4 + alone, "item-1": 3, "item-2": 1}
    assert (report.counts.succeeded, report.counts.dead) == (2, 1)
    assert report.errors == {"TransientLLMError": 6}


def test_the_bound_on_retries_holds_over_restarts(bench: Bench) -> None:
    control = RunControl()

    def fail_and_stop(_claim: Claim, _context: AttemptContext) -> Outcome:
        control.stop("a test")
        raise TransientLLMError("try again")

    def fail(_claim: Claim, _context: AttemptContext) -> Outcome:
        raise TransientLLMError("try again")

    run = bench.new_run()
    first = bench.run(Plain(numbered(1), fail_and_stop), run, control=control)
    assert first.status is RunStatus.PAUSED
    second = Plain(numbered(1), fail)
    report = bench.run(second, run)
    assert len(second.calls) == 3
    assert report.counts.dead == 1


def test_a_fatal_error_fails_the_run_at_once_and_leaves_the_rest_for_a_resume(bench: Bench) -> None:
    def refuse(_claim: Claim, _context: AttemptContext) -> Outcome:
        raise AuthenticationFailed("the key is refused")

    run = bench.new_run()
    workflow = Plain(numbered(200), refuse)
    report = bench.run(workflow, run)
    assert report.status is RunStatus.FAILED
    assert report.error == {"class": "AuthenticationFailed", "message": "the key is refused"}
    assert len(workflow.calls) <= bench.in_hand_at_most
    assert report.counts.dead == 0
    assert report.counts.open == report.counts.total

    again = bench.run(Plain(numbered(200), succeed), run)
    assert again.status is RunStatus.SUCCEEDED
    assert again.counts.succeeded == 200
    assert again.error is None


def test_a_stopped_run_is_paused_and_goes_on_without_repeating_anything(bench: Bench) -> None:
    control = RunControl()

    def stop_in_the_middle(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.key == "item-5":
            control.stop("interrupted")
        if claim.position[0] > 5:
            assert control.stopping.wait(30)
        return Outcome()

    run = bench.new_run()
    first = Plain(numbered(60), stop_in_the_middle)
    report = bench.run(first, run, control=control)
    assert report.status is RunStatus.PAUSED
    assert report.counts.running == 0
    assert report.counts.succeeded == len(first.calls) < 60

    second = Plain(numbered(60), succeed)
    assert bench.run(second, run).status is RunStatus.SUCCEEDED
    assert sorted(first.calls + second.calls) == sorted(spec.key for spec in numbered(60))


def test_children_are_items_of_the_same_run_also_at_concurrency_one(bench: Bench) -> None:
    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        depth = len(claim.position)
        if depth == 3:
            return Outcome()
        children = [ItemSpec(f"{claim.key}/{number}", (*claim.position, number)) for number in range(2)]
        return Outcome(children=children)

    report = bench.run(Plain(numbered(3), process), resources=Resources({"host": ResourceLimits(concurrency=1)}))
    assert report.status is RunStatus.SUCCEEDED
    assert report.counts.total == 3 + 6 + 12
    keys = finished_keys(bench, report.run_id)
    assert keys[:4] == ["item-0", "item-0/0", "item-0/0/0", "item-0/0/1"]


def test_the_same_key_twice_is_one_item(bench: Bench) -> None:
    workflow = Plain([*numbered(5), *numbered(5)], succeed)
    assert bench.run(workflow).counts.total == 5
    assert len(workflow.calls) == 5


def test_items_can_be_planned_and_found_to_be_skipped(bench: Bench) -> None:
    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        return Outcome(skip_reason="nothing in it") if claim.key == "item-1" else Outcome()

    items = [*numbered(2), ItemSpec("disabled", (9,), skip_reason="disabled by configuration")]
    workflow = Plain(items, process)
    report = bench.run(workflow)
    assert "disabled" not in workflow.calls
    assert (report.status, report.counts.succeeded, report.counts.skipped) == (RunStatus.SUCCEEDED, 1, 2)


def test_a_run_without_items_succeeds(bench: Bench) -> None:
    report = bench.run(Plain([], succeed))
    assert (report.status, report.counts.total) == (RunStatus.SUCCEEDED, 0)


def test_a_plan_that_breaks_fails_the_run_and_keeps_what_is_done(bench: Bench) -> None:
    class Broken(Plain):
        def plan(self, run: Run) -> Iterator[ItemSpec]:
            yield from super().plan(run)
            raise MalformedDocument("line 9: it ends here", line=9)

    report = bench.run(Broken(numbered(20), succeed))
    assert report.status is RunStatus.FAILED
    assert report.error == {"class": "MalformedDocument", "message": "line 9: it ends here"}
    assert report.counts.total <= 20


def test_a_plan_that_was_cut_off_goes_on_behind_what_is_stored(bench: Bench) -> None:
    control = RunControl()

    class CutOff(Plain):
        def plan(self, run: Run) -> Iterator[ItemSpec]:
            for number, spec in enumerate(super().plan(run)):
                if number == 700:
                    control.stop("interrupted")
                yield spec

    run = bench.new_run()
    first = CutOff(numbered(1000), succeed)
    assert bench.run(first, run, control=control).status is RunStatus.PAUSED
    second = Plain(numbered(1000), succeed)
    report = bench.run(second, run)
    assert report.counts.succeeded == report.counts.total == 1000
    assert len(first.calls) + len(second.calls) == 1000


def test_progress_adds_up_and_finishes_exactly_once(bench: Bench) -> None:
    bench.run(Plain(numbered(50), succeed))
    assert isinstance(bench.events[0], RunStarted)
    assert isinstance(bench.events[-1], RunFinished)
    assert sum(isinstance(event, RunFinished) for event in bench.events) == 1
    snapshots: list[Snapshot] = [
        event.snapshot for event in bench.events if isinstance(event, ItemFinished | ItemsPlanned)
    ]
    assert all(snapshot.counts.finished <= snapshot.counts.total for snapshot in snapshots)
    finished = [event for event in bench.events if isinstance(event, ItemFinished)]
    assert len(finished) == 50
    assert max(event.snapshot.counts.finished for event in finished) == 50


def test_a_failing_listener_does_not_disturb_the_run(bench: Bench) -> None:
    def listen(_event: object) -> None:
        raise ZeroDivisionError

    run = bench.new_run()
    runner = Runner(bench.store, Plain(numbered(5), succeed))
    assert runner.run(run.run_id, bench.make_executor(), [listen]).status is RunStatus.SUCCEEDED


def test_permits_are_given_back_whatever_happens(bench: Bench) -> None:
    resources = Resources({"host": ResourceLimits(concurrency=1)})
    inside, most = 0, 0

    def process(claim: Claim, context: AttemptContext) -> Outcome:
        nonlocal inside, most
        with context.permit("host"):
            inside += 1
            most = max(most, inside)
            inside -= 1
            if claim.key == "item-1":
                raise PermanentLLMError("no")
        return Outcome()

    for _ in range(2):
        report = bench.run(Plain(numbered(20), process), resources=resources)
        assert (report.counts.succeeded, report.counts.dead) == (19, 1)
    assert most == 1


def test_after_a_rate_limit_nobody_asks_before_the_servers_own_time(bench: Bench) -> None:
    pause = 0.4
    refused_at: list[datetime] = []
    asked_at: list[datetime] = []

    def process(claim: Claim, context: AttemptContext) -> Outcome:
        with context.permit("model"):
            asked_at.append(datetime.now(UTC))
            if claim.key == "item-0" and claim.attempt == 1:
                refused_at.append(asked_at[-1])
                raise RateLimited("slow down", retry_after=pause)
        return Outcome()

    report = bench.run(Plain(numbered(30), process), resources=Resources({"model": ResourceLimits(concurrency=1)}))
    assert report.status is RunStatus.SUCCEEDED
    (refused,) = refused_at
    assert not [when for when in asked_at if refused < when < refused + timedelta(seconds=pause - 0.01)]


def test_what_cannot_be_stored_makes_its_item_dead_not_the_run(bench: Bench) -> None:
    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        return Outcome(result=object() if claim.key == "item-1" else None)  # type: ignore[arg-type]

    report = bench.run(Plain(numbered(4), process))
    assert (report.counts.succeeded, report.counts.dead) == (3, 1)


def test_messages_with_nul_and_lone_surrogates_are_stored(bench: Bench) -> None:
    def process(_claim: Claim, context: AttemptContext) -> Outcome:
        context.keep_answer("a\x00b\ud800c")
        raise PermanentLLMError("bad \x00 answer \udfff")

    report = bench.run(Plain(numbered(1), process))
    (dead,) = dead_letters(bench.db, report.run_id)
    assert dead.raw_answer == "a\N{REPLACEMENT CHARACTER}b?c"


def test_every_attempt_is_a_row(bench: Bench) -> None:
    def process(claim: Claim, context: AttemptContext) -> Outcome:
        context.record_usage(Usage(requests=1, prompt_tokens=10, completion_tokens=5, cost_usd=None))
        if claim.failures == 0:
            raise TransientLLMError("try again")
        return Outcome()

    report = bench.run(Plain(numbered(1), process))
    (item,) = stream_items(bench.db, report.run_id)
    attempts = attempts_of(bench.db, item.item_id)
    assert [(attempt.number, attempt.status) for attempt in attempts] == [
        (1, AttemptStatus.FAILED),
        (2, AttemptStatus.SUCCEEDED),
    ]
    assert (report.usage.requests, report.usage.prompt_tokens, report.usage.cost_usd) == (2, 20, None)


def test_the_payload_is_dropped_when_its_item_is_finished(bench: Bench) -> None:
    control = RunControl()

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        assert claim.payload == b"x"
        if claim.key == "item-4":
            control.stop("a test")
        return Outcome()

    report = bench.run(Plain(numbered(9), process), control=control)
    for item in stream_items(bench.db, report.run_id):
        assert (item.payload_bytes == 0) == (item.status is ItemStatus.SUCCEEDED)


class LastOfAll:
    """What a hundred items do of which one ends only when all others have ended; ``within`` something, if wished."""

    def __init__(
        self, key: str, within: Callable[[AttemptContext], AbstractContextManager[object]] | None = None
    ) -> None:
        self._key = key
        self._within = within or (lambda _: nullcontext())
        self._others = Counter[str]()
        self._are_done = threading.Event()

    def __call__(self, claim: Claim, context: AttemptContext) -> Outcome:
        if claim.key == self._key:
            with self._within(context):
                assert self._are_done.wait(30)
            return Outcome()
        self._others[claim.key] += 1
        if len(self._others) == 99:
            self._are_done.set()
        return Outcome()


def test_a_slow_item_holds_nobody_up(db: ThreadSafeDatabaseManager) -> None:
    """Work-conserving: the first item ends only when all others have ended."""
    bench = Bench(db, lambda: ThreadsExecutor(2))
    assert bench.run(Plain(numbered(100), LastOfAll("item-0"))).status is RunStatus.SUCCEEDED


class Alone(Crew):
    """One thread works alone from the beginning, as where items were Python code so far."""

    def begin(self) -> None:
        super().begin()
        self._is_alone, self._rate_of_all = True, 1000.0


class StaysAlone(Alone):
    """However slow that is."""

    def measure(self, ended: int, by_first: int) -> None:
        pass


def test_the_time_left_is_told_for_those_who_work(db: ThreadSafeDatabaseManager) -> None:
    bench = Bench(db, lambda: ThreadsExecutor(4, crew=StaysAlone()))
    bench.run(Plain(numbered(60), lambda _claim, _context: Outcome()), bench.planned_run(60))
    ended = [event for event in bench.events if isinstance(event, ItemFinished)]
    last = next(event for event in ended if event.snapshot.counts.open == 10)
    mean = sum(event.duration for event in ended[:50]) / 50
    assert last.snapshot.eta_seconds == pytest.approx(10 * mean)


def test_others_work_where_one_that_worked_alone_asks_somebody(db: ThreadSafeDatabaseManager) -> None:
    crew = StaysAlone()

    def model(context: AttemptContext) -> AbstractContextManager[object]:
        assert crew.is_alone
        return context.permit("a model")

    bench = Bench(db, lambda: ThreadsExecutor(4, crew=crew))
    options = RunnerOptions(poll=30)  # nobody looks after them meanwhile
    workflow = Plain(numbered(100), LastOfAll("item-20", model))
    assert bench.run(workflow, options=options).status is RunStatus.SUCCEEDED


def test_others_work_soon_where_one_that_worked_alone_waits_untold(db: ThreadSafeDatabaseManager) -> None:
    bench = Bench(db, lambda: ThreadsExecutor(4, crew=Alone()))
    assert bench.run(Plain(numbered(100), LastOfAll("item-20"))).status is RunStatus.SUCCEEDED


def test_a_retry_waits_outside_the_workers(db: ThreadSafeDatabaseManager) -> None:
    """With one worker the others are done while the first item waits for its second try: an hour, over with the last.

    No lease ends by that.
    """
    ahead, others = [timedelta()], list[str]()

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.key == "item-0" and claim.failures == 0:
            raise TransientLLMError("later", retry_after=3600.0)
        others.append(claim.key)
        if len(others) == 9:
            ahead[0] = timedelta(hours=2)
        return Outcome()

    bench = Bench(db, lambda: ThreadsExecutor(1))
    bench.store = SqlStore(db, {}, clock=lambda: datetime.now(UTC) + ahead[0])
    workflow = Plain(numbered(10), process)
    options = RunnerOptions(retry=RetryPolicy(base=0.01), poll=0.05, lease=1e6)
    assert bench.run(workflow, options=options).status is RunStatus.SUCCEEDED
    assert workflow.calls == [*(f"item-{number}" for number in range(10)), "item-0"]


def test_the_plan_is_only_a_bounded_way_ahead_of_the_work(db: ThreadSafeDatabaseManager) -> None:
    planned = 0
    furthest = 0
    finished = Counter[str]()

    class Counting(Plain):
        def plan(self, run: Run) -> Iterator[ItemSpec]:
            nonlocal planned
            for spec in super().plan(run):
                planned += 1
                yield spec

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        nonlocal furthest
        furthest = max(furthest, planned - len(finished))
        finished[claim.key] += 1
        return Outcome()

    bench = Bench(db, lambda: ThreadsExecutor(2))
    options = RunnerOptions(ahead=50)
    assert bench.run(Counting(numbered(2000), process), options=options).counts.succeeded == 2000
    assert furthest <= 50 + 2 * 256 + 4


def test_two_runners_share_a_run_and_no_item_is_worked_on_twice(db: ThreadSafeDatabaseManager) -> None:
    calls: list[str] = []

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        calls.append(claim.key)
        return Outcome()

    bench = Bench(db, lambda: ThreadsExecutor(3))
    run = bench.new_run()
    other = threading.Thread(target=bench.run, args=(Plain(numbered(300), process), run))
    other.start()
    report = bench.run(Plain(numbered(300), process), run)
    other.join(60)
    assert report.status is RunStatus.SUCCEEDED
    assert sorted(calls) == sorted(spec.key for spec in numbered(300))
