from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, Event, Lock, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.core.errors import (
    PermanentError,
    RateLimited,
    ResourceGone,
    ResourceUnavailable,
    RetryableError,
    TransientLLMError,
)
from thresher.core.limits import ReportedLimits
from thresher.engine.admission import ResourceLimits
from thresher.engine.breaker import BreakerPolicy, Circuit
from thresher.engine.control import Interrupted
from thresher.engine.gate import Gate, Resources, Turn


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def gate_of(limit: int | None = None, clock: Callable[[], float] = time.monotonic, **more: object) -> Gate:
    limits = ResourceLimits(concurrency=limit, is_adaptive=False, **more)  # type: ignore[arg-type]
    return Gate("the model", limits, clock)


def queued(gate: Gate, thread: Thread, count: int) -> None:
    """Starts a thread and returns when so many stand in the queue."""
    thread.start()
    while gate.waiting < count:
        time.sleep(0)


def test_permits_are_given_in_the_order_of_asking() -> None:
    gate, order = gate_of(1), list[int]()

    def ask(number: int) -> None:
        with gate.permit():
            order.append(number)

    threads = [Thread(target=ask, args=(number,)) for number in range(8)]
    with gate.permit():
        for number, thread in enumerate(threads):
            queued(gate, thread, number + 1)
    for thread in threads:
        thread.join(10)
    assert order == list(range(8))


def test_runs_take_turns_and_those_of_higher_priority_go_first() -> None:
    gate, order = gate_of(1), list[str]()

    def ask(run: str, priority: int) -> None:
        with gate.permit(turn=Turn(run, priority)):
            order.append(run)

    asking = [("many", 1)] * 4 + [("few", 1)] * 2 + [("low", 2), ("urgent", 0)]
    threads = [Thread(target=ask, args=one) for one in asking]
    with gate.permit():
        for number, thread in enumerate(threads):
            queued(gate, thread, number + 1)
    for thread in threads:
        thread.join(10)
    assert order == ["urgent", "many", "few", "many", "few", "many", "many", "low"]


@pytest.mark.parametrize("limit", [1, 3])
def test_never_more_permits_than_the_limit_and_all_are_given_back(limit: int) -> None:
    gate, lock, inside, most = gate_of(limit), Lock(), [0], [0]

    def work(_number: int) -> None:
        with gate.permit():
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(200)))
    assert most[0] <= limit
    assert (gate.in_flight, gate.waiting) == (0, 0)


def test_as_many_as_the_limit_are_inside_at_once() -> None:
    gate, together = gate_of(3), Barrier(3)

    def work(_number: int) -> None:
        with gate.permit():
            together.wait(10)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))


@pytest.mark.parametrize("error", [RetryableError("x"), PermanentError("x"), ValueError("x"), KeyboardInterrupt()])
def test_a_permit_is_given_back_whatever_is_raised_inside(error: BaseException) -> None:
    gate = gate_of(1)
    for _ in range(3):
        with pytest.raises(type(error)), gate.permit():
            raise error
    with gate.permit():
        assert gate.in_flight == 1


def test_after_a_retry_after_nobody_passes_before_its_time_and_a_shorter_one_does_not_end_it() -> None:
    clock, passed = Clock(), Event()
    gate = gate_of(None, clock)
    with suppress(RateLimited), gate.permit():
        with suppress(RateLimited), gate.permit():
            raise RateLimited("x", retry_after=30.0)
        raise RateLimited("x", retry_after=1.0)

    def ask() -> None:
        with gate.permit():
            passed.set()

    thread = Thread(target=ask)
    queued(gate, thread, 1)
    clock.now = 29.9
    assert not passed.wait(0.3)
    clock.now = 31.0
    thread.join(10)
    assert passed.is_set()


def test_who_waits_is_let_go_when_the_run_stops_and_does_not_block_the_others() -> None:
    gate = gate_of(1)
    with gate.permit():
        with pytest.raises(Interrupted), gate.permit(lambda: True):
            pytest.fail("there was no permit to give")
        assert gate.waiting == 0
    with gate.permit(lambda: True):
        assert gate.in_flight == 1, "a free permit needs no waiting, and is given"


def test_a_server_that_went_away_makes_requests_wait_and_one_probe_looks_whether_it_is_back() -> None:
    clock = Clock()
    gate = gate_of(4, clock, breaker=BreakerPolicy(failures=5, open_seconds=60.0))
    for _ in range(5):
        with pytest.raises(TransientLLMError), gate.permit():
            raise TransientLLMError("away")
    with pytest.raises(Interrupted), gate.permit(lambda: True):
        pytest.fail("the circuit is open")
    clock.now = 60.0
    with pytest.raises(ResourceUnavailable, match="still away"), gate.permit():
        raise TransientLLMError("still away")
    with pytest.raises(Interrupted), gate.permit(lambda: True):
        pytest.fail("the circuit is open again")
    clock.now = 120.0
    for _ in range(3):
        with gate.permit():
            assert gate.in_flight == 1
    with gate.permit(), gate.permit(), gate.permit():
        assert gate.in_flight == 3


def test_items_that_fail_again_and_again_do_not_open_the_circuit() -> None:
    gate = gate_of(4, breaker=BreakerPolicy(failures=5))
    for _ in range(50):
        with pytest.raises(TransientLLMError), gate.permit(turn=Turn(is_fresh=False)):
            raise TransientLLMError("500")
    assert gate.circuit is Circuit.CLOSED


def test_the_item_that_was_sent_to_look_waits_until_another_has_been() -> None:
    clock = Clock()
    gate = gate_of(4, clock, breaker=BreakerPolicy(failures=1, open_seconds=60.0))
    with pytest.raises(TransientLLMError), gate.permit():
        raise TransientLLMError("away")
    clock.now = 60.0
    with pytest.raises(ResourceUnavailable) as raised, gate.permit():
        raise TransientLLMError("away")
    assert raised.value.retry_after == 120.0


def test_a_server_that_stays_away_is_given_up() -> None:
    clock = Clock()
    gate = gate_of(1, clock, breaker=BreakerPolicy(failures=1, open_seconds=60.0, patience=100.0))
    with pytest.raises(TransientLLMError), gate.permit():
        raise TransientLLMError("away")
    clock.now = 60.0
    with pytest.raises(ResourceUnavailable), gate.permit():
        raise TransientLLMError("away")
    clock.now = 101.0
    with pytest.raises(ResourceGone, match="the model has answered nothing"), gate.permit():
        pytest.fail("nobody waits any longer")


def test_refusals_and_answers_that_say_no_are_no_failures_of_the_server() -> None:
    gate = gate_of(1, Clock(), breaker=BreakerPolicy(failures=1))
    for error in (PermanentError("no"), ValueError("a defect"), RateLimited("slow", retry_after=0.0)):
        with pytest.raises(type(error)), gate.permit(lambda: True):
            raise error


def test_what_replies_say_of_the_limit_is_kept_by_all_threads() -> None:
    clock = Clock()
    gate = gate_of(8, clock)
    with gate.permit() as permit:
        permit.settle(ReportedLimits(limit_requests=10, remaining_requests=3, reset_requests=70.0))
    passed = 0
    with suppress(Interrupted):
        while passed < 10:
            with gate.permit(lambda: True):
                passed += 1
    assert passed == 2, "the third is kept as a margin"


def test_tokens_are_limited_too_and_estimates_are_corrected_by_what_was_used() -> None:
    clock = Clock()
    gate = gate_of(8, clock, tokens_per_minute=60_000)
    with gate.permit(tokens=1_000) as permit:
        permit.settle(ReportedLimits(), 250)
    with pytest.raises(Interrupted), gate.permit(lambda: True, tokens=1_000):
        pytest.fail("a second's tokens are spent")
    clock.now = 0.26
    with gate.permit(lambda: True, tokens=1_000):
        assert gate.in_flight == 1


def test_resources_are_made_once_and_bounded_as_configured() -> None:
    resources = Resources({"api": ResourceLimits(concurrency=1)})
    assert resources.gate("api") is resources.gate("api")
    with resources.gate("other").permit(), resources.gate("other").permit():
        assert resources.gate("other").in_flight == 2


@settings(max_examples=30, deadline=None)
@given(limit=st.integers(1, 4), fails=st.lists(st.booleans(), max_size=30))
def test_a_second_round_finds_all_permits_again(limit: int, fails: list[bool]) -> None:
    gate = gate_of(limit)

    def work(failing: bool) -> None:  # noqa: FBT001 # mapped over
        with gate.permit():
            if failing:
                raise PermanentError("x")

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, failing) for failing in fails]:
            future.exception(10)
    assert (gate.in_flight, gate.waiting) == (0, 0)


def test_the_load_of_a_gate_is_its_rate_against_its_limit() -> None:
    clock = Clock()
    gate = gate_of(4, clock, requests_per_minute=120.0)
    idle = gate.load()
    assert (idle.resource, idle.in_flight, idle.concurrency, idle.requests_per_second) == ("the model", 0, 4, 0.0)
    assert (idle.requests_limit, idle.tokens_limit, idle.circuit, idle.pause) == (2.0, None, Circuit.CLOSED, 0.0)
    for _ in range(20):
        clock.now += 0.5
        with gate.permit():
            assert gate.load().in_flight == 1
    assert gate.load().requests_per_second == pytest.approx(2.0, rel=0.11)


def test_a_limit_that_replies_tell_is_known_from_the_first_and_one_that_nobody_tells_from_a_refusal() -> None:
    told, silent = gate_of(4), gate_of(4)
    with told.permit(tokens=10) as permit:
        permit.settle(ReportedLimits(limit_requests=600, remaining_requests=599, reset_requests=0.1))
    assert told.load().requests_limit == pytest.approx(10.0)
    assert silent.load().requests_limit is None
    with suppress(RateLimited), silent.permit():
        raise RateLimited("slow down", retry_after=7.0)
    load = silent.load()
    assert load.requests_limit is not None
    assert load.pause == pytest.approx(7.0, abs=0.5)
