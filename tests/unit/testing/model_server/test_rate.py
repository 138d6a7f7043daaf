from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.testing.model_server.options import Limits
from thresher.testing.model_server.rate import Bucket


def headers(raw: bytes) -> dict[str, str]:
    return dict(line.split(": ") for line in raw.decode().splitlines())


def test_burst_is_let_in_at_once_and_then_one_request_for_each_interval() -> None:
    bucket = Bucket(Limits(rate=20, burst=3), now=100.0)
    assert [bucket.admit(100.0).allowed for _ in range(4)] == [True, True, True, False]
    assert [bucket.admit(100.0 + 0.0501 * n).allowed for n in (1, 2, 3)] == [True, True, True]
    assert not bucket.admit(100.151).allowed


def test_refused_request_is_let_in_after_the_wait_that_it_was_told() -> None:
    bucket = Bucket(Limits(rate=4, burst=1), now=0.0)
    bucket.admit(0.0)
    refused = bucket.admit(0.1)
    assert refused.wait == pytest.approx(0.15)
    assert not bucket.admit(0.1 + refused.wait - 0.001).allowed
    assert bucket.admit(0.1 + refused.wait + 0.001).allowed


def test_without_a_rate_everybody_is_let_in() -> None:
    bucket = Bucket(Limits(), now=0.0)
    assert all(bucket.admit(0.0).allowed for _ in range(1000))


@pytest.mark.parametrize(
    ("rate", "reset"), [(100.0, "30ms"), (2.0, "1.5s"), (0.02, "2m30s"), (0.0125, "4m0s"), (1.0, "3s")]
)
def test_reset_is_written_as_openai_writes_durations(rate: float, reset: str) -> None:
    bucket = Bucket(Limits(rate=rate, burst=5, headers=True), now=0.0)
    last = [bucket.admit(0.0) for _ in range(3)][-1]
    assert headers(last.headers)["x-ratelimit-reset-requests"] == reset
    assert headers(last.headers)["x-ratelimit-remaining-requests"] == "2"


def test_refusal_names_the_wait_in_seconds_and_milliseconds_rounded_up() -> None:
    bucket = Bucket(Limits(rate=0.8, burst=1, retry_after=True), now=0.0)
    bucket.admit(0.0)
    assert headers(bucket.admit(0.0).headers) == {"retry-after": "2", "retry-after-ms": "1250"}


@given(
    st.floats(0.5, 200),
    st.integers(1, 30),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_are_let_in_than_burst_and_rate_allow(rate: float, burst: int, gaps: list[float]) -> None:
    bucket = Bucket(Limits(rate=rate, burst=burst), now=0.0)
    now, allowed = 0.0, 0
    for gap in gaps:
        now += gap
        allowed += bucket.admit(now).allowed
    assert allowed <= burst + rate * now + 1e-6
