"""What batch mode promises of groups: one answer each, asked again only for what is missing, nobody else's failure."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from contract_support import GROUP, NO_WAIT, Bench, Plain, numbered

from thresher.core.errors import (
    AnswerTruncated,
    AuthenticationFailed,
    NotAnswered,
    RateLimited,
    TransientLLMError,
    UnusableAnswer,
)
from thresher.engine.batch import JointContext
from thresher.engine.control import RunControl, stop_on_signals
from thresher.engine.executors.batch import BatchExecutor
from thresher.engine.executors.sequential import SequentialExecutor
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.ports import AttemptContext
from thresher.engine.progress import FellBack, RunFinished
from thresher.engine.retry import RetryPolicy
from thresher.engine.runner import RunnerOptions
from thresher.engine.work import AttemptStatus, Claim, Fallback, ItemStatus, Mode, Outcome, Run, RunStatus, Usage
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.items import attempts_of, stream_items

Answers = Callable[[Sequence[Claim], Sequence[AttemptContext]], Sequence[Outcome | Exception]]


def fine(_claim: Claim, _context: AttemptContext) -> Outcome:
    return Outcome()


class Grouped(Plain):
    """Notes what it was asked about together; ``answers`` says what came of it."""

    def __init__(self, count: int, answers: Answers, process: Callable[..., Outcome] = fine) -> None:
        super().__init__(numbered(count), process)
        self.groups: list[list[str]] = []
        self._answers = answers

    def process_batch(
        self, claims: Sequence[Claim], contexts: Sequence[AttemptContext]
    ) -> Sequence[Outcome | Exception]:
        self.groups.append([claim.key for claim in claims])
        return self._answers(claims, contexts)


@pytest.fixture
def one_by_one(db: ThreadSafeDatabaseManager) -> Bench:
    """Groups in the calling thread, one after the other."""
    return Bench(db, lambda: BatchExecutor(SequentialExecutor(), GROUP))


def all_fine(claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
    return [Outcome()] * len(claims)


def failing(error: Exception, *keys: str) -> Answers:
    """Items with these keys are answered by the error, the others are fine."""
    return lambda claims, _: [error if claim.key in keys else Outcome() for claim in claims]


def test_items_go_in_groups_and_each_has_an_attempt_of_its_own(one_by_one: Bench) -> None:
    workflow = Grouped(12, all_fine)
    report = one_by_one.run(workflow)
    assert (report.status, report.mode, report.counts.succeeded) == (RunStatus.SUCCEEDED, Mode.BATCH, 12)
    assert [len(group) for group in workflow.groups] == [5, 5, 2]
    for item in stream_items(one_by_one.db, report.run_id):
        assert [attempt.status for attempt in attempts_of(one_by_one.db, item.item_id)] == [AttemptStatus.SUCCEEDED]
    assert report.fallbacks == ()


def test_what_is_missing_is_asked_for_once_more_together_and_then_alone(one_by_one: Bench) -> None:
    workflow = Grouped(5, failing(NotAnswered("left out"), "item-1", "item-3"))
    report = one_by_one.run(workflow)
    assert workflow.groups == [[f"item-{number}" for number in range(5)], ["item-1", "item-3"]]
    assert workflow.calls == ["item-1", "item-3"]
    assert report.status is RunStatus.SUCCEEDED
    assert report.fallbacks == (Fallback("batch", "single", "left out", 2),)
    assert sum(isinstance(event, FellBack) for event in one_by_one.events) == 1
    assert one_by_one.store.get_run(report.run_id).fallbacks == report.fallbacks


def test_a_group_without_a_usable_answer_is_halved_and_then_each_item_is_alone(one_by_one: Bench) -> None:
    def refuse(_claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        raise UnusableAnswer("prose")

    workflow = Grouped(5, refuse)
    report = one_by_one.run(workflow)
    assert [len(group) for group in workflow.groups] == [5, 3, 2]
    assert len(workflow.calls) == 5
    assert (report.status, report.errors) == (RunStatus.SUCCEEDED, {})
    assert report.fallbacks == (Fallback("batch", "single", "prose", 5),)


def test_a_truncated_answer_does_not_wait_for_a_retry(one_by_one: Bench) -> None:
    def cut(claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        if len(claims) > 3:
            raise AnswerTruncated("cut")
        return [Outcome()] * len(claims)

    workflow = Grouped(5, cut)
    report = one_by_one.run(workflow)
    assert [len(group) for group in workflow.groups] == [5, 3, 2]
    assert (workflow.calls, report.errors, report.fallbacks) == ([], {}, ())


def test_the_wrong_number_of_results_is_a_defect_that_costs_nobody_its_answer(one_by_one: Bench) -> None:
    workflow = Grouped(5, lambda _claims, _contexts: [Outcome()])
    report = one_by_one.run(workflow)
    assert report.counts.succeeded == len(workflow.calls) == 5
    assert {fallback.reason for fallback in report.fallbacks} == {"1 results for 3 items", "1 results for 2 items"}


@pytest.mark.parametrize("error", [TransientLLMError("500"), RateLimited("429", retry_after=0.01)])
def test_a_server_that_is_away_makes_the_group_wait_and_come_back_together(one_by_one: Bench, error: Exception) -> None:
    times = Counter[str]()

    def once(claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        times.update(claim.key for claim in claims)
        return [error if times[claim.key] == 1 else Outcome() for claim in claims]

    workflow = Grouped(5, once)
    report = one_by_one.run(workflow)
    assert workflow.groups == [[f"item-{number}" for number in range(5)]] * 2
    assert (report.counts.succeeded, report.errors) == (5, {type(error).__name__: 5})
    assert report.fallbacks == ()


def test_no_item_dies_of_another_s_error(one_by_one: Bench) -> None:
    """A server that fails whenever one item is among those it is asked about: that one dies, alone."""

    def poisoned(claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        if any(claim.key == "item-2" for claim in claims):
            raise TransientLLMError("500")
        return [Outcome()] * len(claims)

    def process(claim: Claim, _context: AttemptContext) -> Outcome:
        if claim.key == "item-2":
            raise TransientLLMError("500")
        return Outcome()

    report = one_by_one.run(Grouped(5, poisoned, process))
    assert (report.counts.succeeded, report.counts.dead) == (4, 1)
    (dead,) = (item for item in stream_items(one_by_one.db, report.run_id) if item.status is ItemStatus.DEAD)
    assert dead.key == "item-2"


def test_a_fatal_error_of_a_group_ends_the_run_and_none_of_its_items(one_by_one: Bench) -> None:
    def refuse(_claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        raise AuthenticationFailed("the key is refused")

    workflow = Grouped(40, refuse)
    report = one_by_one.run(workflow)
    assert report.status is RunStatus.FAILED
    assert len(workflow.groups) == 1
    assert (report.counts.dead, report.counts.open) == (0, 40)
    assert report.fallbacks == ()


def test_usage_of_a_group_adds_up_to_what_was_paid(one_by_one: Bench) -> None:
    paid = Usage(requests=1, prompt_tokens=101, completion_tokens=53, cached_tokens=7, cost_usd=0.31)

    def pay(claims: Sequence[Claim], contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        JointContext(contexts, [len(claim.key) + number for number, claim in enumerate(claims)]).record_usage(paid)
        return [NotAnswered("left out") if claim.key == "item-4" else Outcome() for claim in claims]

    workflow = Grouped(5, pay)
    report = one_by_one.run(workflow)
    usage = report.usage
    assert (usage.requests, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (1, 101, 53, 7)
    assert usage.cost_usd == pytest.approx(0.31)
    assert report.item_seconds_sum < report.elapsed_seconds + 0.001, "a worker's time is not counted once per item"


def test_a_stop_between_two_rounds_leaves_the_rest_pending(one_by_one: Bench) -> None:
    control = RunControl()

    def stop(claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        control.stop("interrupted")
        return [NotAnswered("left out") if claim.key == "item-4" else Outcome() for claim in claims]

    workflow = Grouped(20, stop)
    run = one_by_one.new_run()
    report = one_by_one.run(workflow, run, control=control)
    assert report.status is RunStatus.PAUSED
    assert (report.counts.succeeded, report.counts.pending, workflow.calls) == (4, 16, [])
    assert one_by_one.run(Grouped(20, all_fine), run).counts.succeeded == 20


def test_the_second_ctrl_c_leaves_every_item_of_a_group_pending(one_by_one: Bench) -> None:
    control = RunControl()

    def interrupt(_claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second interrupt is raised here")

    run = one_by_one.new_run()
    with stop_on_signals(control), pytest.raises(KeyboardInterrupt):
        one_by_one.run(Grouped(10, interrupt), run, control=control)
    counts = one_by_one.store.counts(run.run_id)
    assert (counts.pending, counts.running) == (10, 0)
    assert sum(isinstance(event, RunFinished) for event in one_by_one.events) == 1


def test_groups_run_side_by_side(db: ThreadSafeDatabaseManager) -> None:
    meeting = threading.Barrier(3, timeout=30)

    def meet(claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        meeting.wait()
        return [Outcome()] * len(claims)

    bench = Bench(db, lambda: BatchExecutor(ThreadsExecutor(3), GROUP))
    workflow = Plain(numbered(0), fine)
    run = bench.new_run()
    bench.store.add_items(run.run_id, numbered(15), planned=15)
    bench.store.finish_planning(run.run_id, {})
    workflow = Grouped(15, meet)
    report = bench.run(workflow, run)
    assert (report.counts.succeeded, len(workflow.groups)) == (15, 3)
    assert report.peak_concurrency == 15


def test_retries_of_a_group_are_bounded(one_by_one: Bench) -> None:
    def away(_claims: Sequence[Claim], _contexts: Sequence[AttemptContext]) -> list[Outcome | Exception]:
        raise TransientLLMError("500")

    def process(_claim: Claim, _context: AttemptContext) -> Outcome:
        raise TransientLLMError("500")

    options = RunnerOptions(retry=RetryPolicy(max_retries=1, base=0.001, cap=0.002), poll=0.05)
    report = one_by_one.run(Grouped(4, away, process), options=options)
    assert (report.status, report.counts.dead) == (RunStatus.FAILED, 4)
    assert report.errors == {"TransientLLMError": 8}


def test_a_run_without_batches_is_read_one_by_one_under_a_fixed_batch_executor(db: ThreadSafeDatabaseManager) -> None:
    class Alone:
        kind = "plain"

        def plan(self, _run: Run) -> list:  # type: ignore[type-arg]
            return numbered(4)

        def process(self, _claim: Claim, _context: AttemptContext) -> Outcome:
            return Outcome()

    bench = Bench(db, lambda: BatchExecutor(SequentialExecutor(), GROUP))
    report = bench.run(Alone(), options=RunnerOptions(retry=NO_WAIT, poll=0.05))  # type: ignore[arg-type]
    assert report.counts.succeeded == 4
