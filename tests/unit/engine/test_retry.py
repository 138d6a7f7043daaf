from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thresher.core.errors import FatalError, PermanentError, RetryableError
from thresher.engine.retry import RetryPolicy

EXACT = RetryPolicy(max_retries=5, base=1.0, cap=300.0, jitter_low=1.0, jitter_high=1.0)


def test_waits_double_from_the_base_up_to_the_cap() -> None:
    policy = RetryPolicy(max_retries=20, base=0.5, factor=2.0, cap=10.0, jitter_low=1.0, jitter_high=1.0)
    waits = [policy.delay(RetryableError("x"), failures) for failures in range(1, 8)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_retries_are_bounded_by_the_items_own_failures_whatever_process_counted_them() -> None:
    policy = RetryPolicy(max_retries=3)
    assert policy.delay(RetryableError("x"), 3) is not None
    assert policy.delay(RetryableError("x"), 4) is None
    assert RetryPolicy(max_retries=0).delay(RetryableError("x"), 1) is None


def test_only_retryable_errors_are_tried_again() -> None:
    for error in (PermanentError("x"), FatalError("x"), ValueError("x"), KeyboardInterrupt()):
        assert EXACT.delay(error, 1) is None


def test_the_servers_own_time_wins_where_it_is_longer() -> None:
    assert EXACT.delay(RetryableError("x", retry_after=1000.0), 1) == 1000.0
    assert EXACT.delay(RetryableError("x", retry_after=0.1), 3) == 4.0


@given(failures=st.integers(1, 60), low=st.floats(0, 1), high=st.floats(1, 3))
def test_a_wait_is_never_negative_and_never_beyond_the_cap_with_its_jitter(
    failures: int, low: float, high: float
) -> None:
    policy = RetryPolicy(max_retries=60, base=1.0, cap=30.0, jitter_low=low, jitter_high=high)
    wait = policy.delay(RetryableError("x"), failures)
    assert wait is not None
    assert policy.backoff(failures) * low <= wait <= 30.0 * high
