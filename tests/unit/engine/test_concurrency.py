from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.engine.concurrency import AdaptiveConcurrency, quota_bound


def serve(concurrency: AdaptiveConcurrency, requests: int, latency: float, capacity: float = 1e9) -> None:
    """A server whose latency grows in proportion when more than ``capacity`` requests are there at once."""
    for _ in range(requests):
        at_once = concurrency.limit
        concurrency.ended(latency * max(at_once / capacity, 1.0), at_once, failed=False)


def test_it_starts_at_the_maximum_and_stays_there_while_latency_is_steady() -> None:
    concurrency, noise = AdaptiveConcurrency(64), random.Random(1)
    for _ in range(2_000):
        concurrency.ended(noise.lognormvariate(-0.7, 0.6), 64, failed=False)
    assert concurrency.limit >= 60


def test_one_request_in_a_hundred_that_takes_ten_times_longer_changes_nothing() -> None:
    concurrency = AdaptiveConcurrency(64)
    for number in range(2_000):
        concurrency.ended(5.0 if number % 100 == 0 else 0.5, 64, failed=False)
    assert concurrency.limit == 64


def test_it_shrinks_when_latency_rises_and_grows_when_it_falls_again() -> None:
    concurrency = AdaptiveConcurrency(64)
    serve(concurrency, 640, 0.5)
    serve(concurrency, 300, 2.5)
    shrunk = concurrency.limit
    assert shrunk < 32
    serve(concurrency, 2_000, 0.5)
    assert concurrency.limit == 64


def test_it_shrinks_towards_the_capacity_of_the_server() -> None:
    concurrency = AdaptiveConcurrency(64)
    for _ in range(60):
        serve(concurrency, 64, 0.5)
    serve(concurrency, 400, 0.5, capacity=10.0)
    assert 10 <= concurrency.limit <= 48


def test_a_window_of_failures_lowers_it_by_a_third_and_a_few_failures_do_not() -> None:
    concurrency = AdaptiveConcurrency(30)
    for number in range(30):
        concurrency.ended(0.1, 30, failed=number % 3 == 0)
    assert concurrency.limit == 30
    for _ in range(30):
        concurrency.ended(0.1, 30, failed=True)
    assert concurrency.limit == 20
    for _ in range(3_000):
        concurrency.ended(0.1, 20, failed=True)
    assert concurrency.limit == 1


def test_a_fixed_one_never_changes() -> None:
    concurrency = AdaptiveConcurrency(8, is_fixed=True)
    for latency in (0.1, 10.0) * 200:
        concurrency.ended(latency, 8, failed=latency > 1)
    assert concurrency.limit == 8


@settings(deadline=None)
@given(
    maximum=st.integers(1, 100),
    ends=st.lists(st.tuples(st.floats(0, 100), st.integers(1, 100), st.booleans()), max_size=300),
)
def test_it_always_lies_between_1_and_the_maximum(maximum: int, ends: list[tuple[float, int, bool]]) -> None:
    concurrency = AdaptiveConcurrency(maximum)
    for latency, in_flight, failed in ends:
        concurrency.ended(latency, in_flight, failed=failed)
        assert 1 <= concurrency.limit <= maximum


@pytest.mark.parametrize(("left", "bound"), [(1.0, 10), (0.76, 10), (0.75, 5), (0.51, 5), (0.4, 3), (0.2, 1), (0, 1)])
def test_what_is_left_of_an_hourly_quota_bounds_it(left: float, bound: int) -> None:
    assert quota_bound(10, left, 3600.0) == bound
    assert quota_bound(10, left, 30.0) == 10, "a limit that is back soon is kept by its rate"
