from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.engine.breaker import Breaker, BreakerPolicy, Circuit

USUAL = BreakerPolicy()


def opened(now: float = 0.0, policy: BreakerPolicy = USUAL) -> Breaker:
    breaker = Breaker(policy)
    fail(breaker, now, policy.failures)
    return breaker


def fail(breaker: Breaker, now: float, times: int, in_flight: int = 1) -> None:
    for _ in range(times):
        breaker.failed(now, is_probe=breaker.enter(), in_flight=in_flight)


def test_it_opens_after_failures_in_a_row_and_stays_open_for_its_time() -> None:
    breaker = Breaker(BreakerPolicy(failures=5, open_seconds=60.0))
    fail(breaker, 0.0, 4)
    breaker.succeeded(is_probe=breaker.enter())
    fail(breaker, 1.0, 4)
    assert breaker.wait(1.0) == 0.0
    fail(breaker, 1.0, 1)
    assert breaker.state is Circuit.OPEN
    assert breaker.wait(1.0) == 60.0
    assert breaker.wait(60.5) == pytest.approx(0.5)


def test_what_was_in_flight_together_fails_together_and_counts_as_one_row() -> None:
    breaker = Breaker(BreakerPolicy(failures=5))
    fail(breaker, 0.0, 63, in_flight=64)
    assert breaker.state is Circuit.CLOSED
    fail(breaker, 0.0, 1, in_flight=1)
    assert breaker.state is Circuit.OPEN


def test_one_probe_at_a_time_and_three_successes_close_it() -> None:
    breaker = opened()
    assert breaker.wait(61.0) == 0.0
    for _ in range(3):
        assert breaker.state is Circuit.HALF_OPEN
        is_probe = breaker.enter()
        assert is_probe
        assert breaker.wait(61.0) > 0, "while a probe is out nobody else goes"
        breaker.succeeded(is_probe=is_probe)
        assert breaker.wait(61.0) == 0.0
    assert breaker.state is Circuit.CLOSED


def test_a_failed_probe_opens_it_again() -> None:
    breaker = opened()
    assert breaker.wait(60.0) == 0.0
    breaker.failed(60.0, is_probe=breaker.enter(), in_flight=1)
    assert breaker.wait(60.0) == 60.0


def test_an_interrupted_probe_lets_the_next_one_go() -> None:
    breaker = opened()
    assert breaker.wait(60.0) == 0.0
    breaker.left(is_probe=breaker.enter())
    assert breaker.wait(60.0) == 0.0


def test_late_failures_of_requests_sent_before_it_opened_change_nothing() -> None:
    breaker = opened(0.0)
    breaker.failed(30.0, is_probe=False, in_flight=3)
    assert breaker.wait(60.0) == 0.0


def test_patience_ends_when_nothing_succeeds() -> None:
    breaker = opened(0.0, BreakerPolicy(patience=100.0))
    assert not breaker.is_hopeless(99.0)
    assert breaker.is_hopeless(101.0)
    assert not opened(0.0, BreakerPolicy(patience=None)).is_hopeless(1e9)
    breaker.succeeded(is_probe=False)
    assert not breaker.is_hopeless(200.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["succeeds", "fails", "is interrupted"]), st.floats(0, 100)), max_size=60))
def test_it_never_locks_up_for_good(steps: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(BreakerPolicy()), 0.0
    for what, seconds in steps:
        now += seconds
        if breaker.wait(now) > 0:
            continue
        is_probe = breaker.enter()
        if what == "succeeds":
            breaker.succeeded(is_probe=is_probe)
        elif what == "fails":
            breaker.failed(now, is_probe=is_probe, in_flight=1)
        else:
            breaker.left(is_probe=is_probe)
    assert breaker.wait(now + 61.0) == 0.0
