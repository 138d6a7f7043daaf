from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.simulation import Bucket, Came, Says, Simulation, Window

from thresher.engine.admission import Admission, ResourceLimits
from thresher.engine.rate_limit import Allowance, Pace

RATE = 20.0
ITEMS = 400
HEADERS = [Says(headers=True), Says(headers=True, retry_after=True)]
SILENT = [Says(), Says(retry_after=True)]
seeds = pytest.mark.parametrize("seed", range(4))
latencies = pytest.mark.parametrize("latency", [0.02, 0.1, 0.4])
workers = pytest.mark.parametrize("workers", [10, 64])


def over_ideal(came: Came, rate: float = RATE, items: int = ITEMS) -> float:
    return came.seconds / (items / rate)


@seeds
@workers
@latencies
@pytest.mark.parametrize("says", HEADERS, ids=["headers", "headers and Retry-After"])
def test_a_limit_that_is_told_is_kept_and_used(says: Says, workers: int, latency: float, seed: int) -> None:
    came = Simulation(Bucket(RATE, RATE), says, workers=workers, latency=latency, seed=seed).run()
    assert over_ideal(came) <= 1.03
    assert came.refused_after(1.0) == 0
    assert came.too_early == 0


@seeds
@workers
@latencies
@pytest.mark.parametrize("says", SILENT, ids=["silent", "Retry-After"])
def test_a_limit_that_nobody_tells_is_found(says: Says, workers: int, latency: float, seed: int) -> None:
    came = Simulation(Bucket(RATE, RATE), says, workers=workers, latency=latency, seed=seed).run()
    assert over_ideal(came) <= 1.15
    assert len(came.refused) <= 0.05 * ITEMS
    assert came.too_early == 0


@pytest.mark.parametrize("burst", [1, 5, 60, 300])
@pytest.mark.parametrize("says", [*HEADERS, *SILENT])
def test_whatever_the_burst_the_limiter_is_stable(says: Says, burst: int) -> None:
    came = Simulation(Bucket(RATE, burst), says).run()
    assert over_ideal(came) <= 1.3
    assert len(came.refused) <= 0.06 * ITEMS


@pytest.mark.parametrize(
    ("rate", "says"),
    [(rate, says) for says in (HEADERS[0], SILENT[0]) for rate in (2.0, 8.0, 200.0)] + [(0.5, HEADERS[0])],
)
def test_whatever_the_rate_the_limiter_is_stable(rate: float, says: Says) -> None:
    items = int(max(40, 20 * rate))
    came = Simulation(Bucket(rate, max(rate, 1.0)), says, items=items, latency=0.3).run()
    assert over_ideal(came, rate, items) <= 1.2
    assert len(came.refused) <= max(0.05 * items, 25)


@pytest.mark.parametrize("says", [*HEADERS, SILENT[1]])
def test_windows_are_used_up_and_waited_for(says: Says) -> None:
    came = Simulation(Window(RATE, 10.0), says, items=1000).run()
    assert over_ideal(came, items=1000) <= 1.0
    assert len(came.refused) <= 30


def test_a_silent_window_is_survived() -> None:
    came = Simulation(Window(RATE, 10.0), items=1000).run()
    assert over_ideal(came, items=1000) <= 1.2
    assert len(came.refused) <= 0.1 * 1000


@seeds
@pytest.mark.parametrize("says", [HEADERS[0], SILENT[0]], ids=["headers", "silent"])
def test_a_limit_that_is_halved_is_followed_within_5_seconds(says: Says, seed: int) -> None:
    came = Simulation(Bucket(RATE, RATE), says, items=600, changes=[(15.0, 10.0, 10.0)], seed=seed).run()
    late = [at for at in came.refused if 20.0 < at < 35.0]
    assert came.rate(20.0, 35.0) == pytest.approx(10.0, rel=0.1)
    assert len(late) <= 8
    assert len([at for at in came.refused if 15.0 < at < 20.0]) <= 25


@seeds
@pytest.mark.parametrize("says", [HEADERS[0], SILENT[0]], ids=["headers", "silent"])
def test_a_limit_that_is_doubled_is_used_within_15_seconds(says: Says, seed: int) -> None:
    came = Simulation(Bucket(RATE, RATE), says, items=1600, changes=[(15.0, 40.0, 40.0)], seed=seed).run()
    assert came.rate(30.0, 40.0) >= 0.85 * 40


@seeds
def test_a_limit_that_is_set_beforehand_is_never_refused(seed: int) -> None:
    limits = ResourceLimits(requests_per_minute=60 * RATE, concurrency=64)
    came = Simulation(Bucket(RATE, 3), limits=limits, seed=seed).run()
    assert came.refused == []
    assert over_ideal(came) <= 1.03


@settings(deadline=None)
@given(n=st.integers(2, 200), rate=st.floats(0.1, 300), late=st.floats(0, 0.09))
def test_n_waiters_at_rate_r_take_n_minus_1_over_r(n: int, rate: float, late: float) -> None:
    """Also where threads wake up late: what was lost is made up for."""
    admission, now = Admission(ResourceLimits(requests_per_minute=60 * rate), 0.0), 0.0
    for _ in range(n):
        while (wait := admission.wait(now)) > 0:
            now += wait
        admission.enter(now)
        now += late / rate / 2
    assert now - late / rate / 2 == pytest.approx((n - 1) / rate, rel=0.1, abs=0.001 + 0.1 / rate)
    assert now >= (n - 1) / rate - 0.11


def test_requests_under_way_while_the_estimate_changes_are_settled_at_what_was_taken_for_them() -> None:
    admission = Admission(ResourceLimits(tokens_per_minute=60_000), 0.0)
    entries = []
    for second in range(40):
        assert admission.wait(second * 10.0, 1_000) == 0.0
        entries.append(admission.enter(second * 10.0, 1_000))
    for entry in entries:
        entry.used_tokens = 500
        admission.leave(400.0, entry, None)
    assert admission._set_tokens._spent == pytest.approx(40 * 500)


class TestAllowance:
    def told(self, limit: int = 100, remaining: int = 60, reset: float = 20.0) -> Allowance:
        allowance = Allowance()
        allowance.learn(allowance.take(0.0, 1), limit, remaining, reset)
        return allowance

    def test_nothing_is_bounded_before_something_is_known(self) -> None:
        assert Allowance().wait(0.0, 1e9) == 0.0

    def test_what_remains_may_be_taken_and_comes_back_at_the_rate_of_the_reply(self) -> None:
        allowance = self.told()
        assert allowance.rate == pytest.approx(39.5 / 20)
        assert allowance.level(0.0) == 60
        assert allowance.level(10.0) == pytest.approx(60 + 10 * allowance.rate)
        assert allowance.level(1e6) == 100

    def test_more_than_the_limit_may_be_taken_when_it_is_whole(self) -> None:
        allowance = self.told()
        assert 0 < allowance.wait(0.0, 1_000) < 25
        assert allowance.wait(30.0, 1_000) == 0.0

    def test_requests_sent_before_the_first_reply_are_counted(self) -> None:
        allowance = Allowance()
        marks = [allowance.take(0.0, 1) for _ in range(10)]
        allowance.learn(marks[0], 20, 19, 0.05)
        assert allowance.level(0.0) == pytest.approx(10)

    def test_what_others_take_shows(self) -> None:
        allowance = self.told()
        for second in range(1, 60):
            allowance.learn(allowance.take(float(second), 1), 100, 5, 48.0)
        assert allowance.level(59.0) < 15

    def test_a_window_is_told_from_a_bucket(self) -> None:
        window, bucket = Allowance(), Allowance()
        for number in range(1, 40):
            now = number * 0.1
            window.learn(window.take(now, 1), 100, 100 - number, 60.0 - now)
            bucket.learn(bucket.take(now, 1), 100, 100 - number, number / 1.0)
        assert window.is_window
        assert not bucket.is_window
        assert window.until_reset(4.0) == pytest.approx(56.0)
        assert bucket.until_reset(4.0) == 0.0


class TestPace:
    def test_without_a_refusal_there_is_no_limit(self) -> None:
        pace = Pace(0.0)
        for _ in range(64):
            pace.sent(0.0)
        assert pace.wait(0.2) == 0.0
        assert pace.rate(2.0) == float("inf")

    def test_the_first_workers_start_at_once_and_the_rest_soon(self) -> None:
        pace, now = Pace(0.0), 0.0
        for number in range(64):
            now += pace.wait(now)
            pace.sent(now)
            assert now == 0.0 or number >= 9
        assert now < 0.2

    def test_a_server_that_refuses_everything_is_asked_ever_less(self) -> None:
        pace, now, asked = Pace(0.0), 0.0, 0
        while now < 120.0:
            now += pace.wait(now)
            pace.sent(now)
            asked += 1
            pace.refused(now, now)
        assert asked < 60

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=80))
    def test_whatever_happens_nobody_waits_longer_than_the_lowest_rate_wants(
        self, steps: list[tuple[float, bool]]
    ) -> None:
        pace, now = Pace(0.0), 0.0
        for seconds, refused in steps:
            now += pace.wait(now)
            pace.sent(now)
            if refused:
                pace.refused(now + seconds, now)
            now += seconds
            assert pace.rate(now) > 0
            assert pace.wait(now) <= 5.001
