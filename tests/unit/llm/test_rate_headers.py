from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.llm.rate_headers import SILENT, count, duration, read_rate_headers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("2m59.56s", 179.56), ("1d", 86400), ("7", 7)],
)
def test_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "soon", "1x", "1s later", "inf", "nan", "2026-01-01T00:00:00Z"])
def test_what_is_no_duration_counts_as_not_said(text: str) -> None:
    assert duration(text) is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "²", "9" * 30])
def test_what_is_no_count_counts_as_not_said(text: str) -> None:
    assert count(text) is None


def test_a_reply_without_limits_says_nothing() -> None:
    assert read_rate_headers({b"content-type": b"application/json"}) is SILENT


names = st.sampled_from([b"retry-after", b"retry-after-ms", b"x-ratelimit-reset-tokens", b"x-ratelimit-limit-tokens"])


@given(st.dictionaries(names, st.binary(max_size=30)))
def test_no_header_is_an_obstacle_and_no_wait_is_negative(headers: dict[bytes, bytes]) -> None:
    limits = read_rate_headers(headers)
    assert limits.retry_after is None or limits.retry_after >= 0
