from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.core.errors import PermanentError, RateLimited, RetryableError
from thresher.engine.concurrency import Gate, Resources
from thresher.engine.control import Interrupted


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def waiting(gate: Gate) -> int:
    with gate._condition:
        return len(gate._waiting)


def test_permits_are_given_in_the_order_of_asking() -> None:
    gate, order = Gate(1), list[int]()

    def ask(number: int) -> None:
        with gate.permit():
            order.append(number)

    threads = [Thread(target=ask, args=(number,)) for number in range(8)]
    with gate.permit():
        for number, thread in enumerate(threads):
            thread.start()
            while waiting(gate) <= number:  # it stands in the queue before the next one comes
                pass
    for thread in threads:
        thread.join(10)
    assert order == list(range(8))


@pytest.mark.parametrize("limit", [1, 3])
def test_never_more_permits_than_the_limit_and_all_are_given_back(limit: int) -> None:
    gate, lock, inside, most = Gate(limit), Lock(), [0], [0]

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
    assert (gate._in_use, waiting(gate)) == (0, 0)


def test_as_many_as_the_limit_are_inside_at_once() -> None:
    gate, together = Gate(3), Barrier(3)

    def work(_number: int) -> None:
        with gate.permit():
            together.wait(10)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))


@pytest.mark.parametrize("error", [RetryableError("x"), PermanentError("x"), ValueError("x"), KeyboardInterrupt()])
def test_a_permit_is_given_back_whatever_is_raised_inside(error: BaseException) -> None:
    gate = Gate(1)
    for _ in range(3):
        with pytest.raises(type(error)), gate.permit():
            raise error
    with gate.permit():
        assert gate._in_use == 1


def test_after_a_retry_after_nobody_passes_before_its_time() -> None:
    clock, passed = Clock(), Event()
    gate = Gate(None, clock)
    with pytest.raises(RateLimited), gate.permit():
        raise RateLimited("x", retry_after=30.0)

    def ask() -> None:
        with gate.permit():
            passed.set()

    thread = Thread(target=ask)
    thread.start()
    while not waiting(gate):
        pass
    clock.now = 29.9
    assert gate._time_to_wait(gate._waiting[0]) == pytest.approx(0.1)
    assert not passed.is_set()
    clock.now = 30.0
    thread.join(10)
    assert passed.is_set()


def test_a_shorter_retry_after_does_not_end_a_longer_one() -> None:
    clock = Clock()
    gate = Gate(None, clock)
    for seconds in (30.0, 1.0, None):
        gate._pause(seconds)
    assert gate._closed_until == 30.0


def test_who_waits_is_let_go_when_the_run_stops_and_does_not_block_the_others() -> None:
    gate = Gate(1)
    with gate.permit():
        with pytest.raises(Interrupted), gate.permit(lambda: True):
            pytest.fail("there was no permit to give")
        assert waiting(gate) == 0
    with gate.permit(lambda: True):
        assert gate._in_use == 1, "a free permit needs no waiting, and is given"


def test_resources_without_a_limit_share_pauses_but_bound_nothing() -> None:
    resources = Resources({"api": 1})
    assert resources.gate("api") is resources.gate("api")
    with resources.gate("other").permit(), resources.gate("other").permit():
        assert resources.gate("other")._in_use == 2


@settings(max_examples=30, deadline=None)
@given(limit=st.integers(1, 4), fails=st.lists(st.booleans(), max_size=30))
def test_a_second_round_finds_all_permits_again(limit: int, fails: list[bool]) -> None:
    gate = Gate(limit)

    def work(failing: bool) -> None:  # noqa: FBT001 # mapped over
        with gate.permit():
            if failing:
                raise PermanentError("x")

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, failing) for failing in fails]:
            future.exception(10)
    assert (gate._in_use, waiting(gate)) == (0, 0)
