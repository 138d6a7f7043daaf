"""Cron expressions in time zones: also where the clock jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.core.errors import BadInput
from thresher.integrations.cron import CronSchedule

BERLIN = "Europe/Berlin"  # clocks go forward at 2:00 on 2026-03-29, back at 3:00 on 2026-10-25
ZONES = ("UTC", BERLIN, "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham")


def firings(expression: str, zone: str, since: str, count: int) -> list[str]:
    """As local times with their offset from UTC."""
    schedule = CronSchedule.parse(expression, zone)
    moment = datetime.fromisoformat(since).replace(tzinfo=ZoneInfo(zone))
    return [firing.astimezone(ZoneInfo(zone)).isoformat() for firing in schedule.next_firings(moment, count)]


def test_a_time_that_is_skipped_fires_when_the_gap_is_over() -> None:
    assert firings("30 2 * * *", BERLIN, "2026-03-28T12:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_time_that_comes_twice_fires_once() -> None:
    assert firings("30 2 * * *", BERLIN, "2026-10-24T12:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_within_the_hour_that_comes_twice_nothing_fires_in_the_past() -> None:
    schedule = CronSchedule.parse("30 2 * * *", BERLIN)
    second_time = datetime(2026, 10, 25, 2, 10, tzinfo=ZoneInfo(BERLIN), fold=1)
    assert schedule.after(second_time) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_what_goes_by_elapsed_time_does_not_care_about_clocks() -> None:
    assert firings("*/30 * * * *", BERLIN, "2026-10-25T02:15", 4) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


def test_six_fields_begin_with_seconds() -> None:
    assert firings("*/20 * * * * *", "UTC", "2026-01-01T00:00:05", 2) == [
        "2026-01-01T00:00:20+00:00",
        "2026-01-01T00:00:40+00:00",
    ]


@pytest.mark.parametrize("expression", ["", "* * *", "61 * * * *", "* * * * FOO", "0 0 31 2 *", "*" * 300])
def test_what_is_no_expression_or_never_fires_is_refused(expression: str) -> None:
    with pytest.raises(BadInput):
        CronSchedule.parse(expression, "UTC")


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe"])
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(BadInput, match="time zone"):
        CronSchedule.parse("* * * * *", zone)


@given(
    minute=st.one_of(st.just("*"), st.integers(0, 59).map(str), st.just("*/17"), st.just("5,35")),
    hour=st.one_of(st.just("*"), st.integers(0, 23).map(str), st.just("1-3")),
    zone=st.sampled_from(ZONES),
    moment=st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1)),  # noqa: DTZ001 # the zone is set below
    fold=st.integers(0, 1),
)
def test_firings_go_forward_and_show_what_was_asked_for(
    minute: str, hour: str, zone: str, moment: datetime, fold: int
) -> None:
    schedule = CronSchedule.parse(f"{minute} {hour} * * *", zone)
    since = moment.replace(tzinfo=ZoneInfo(zone), fold=fold)
    found = schedule.next_firings(since, 30)
    assert len(found) == 30
    assert since < found[0]
    assert found == sorted(set(found))
    assert all(firing.tzinfo is UTC and firing.microsecond == 0 for firing in found)
    if minute.isdigit() and hour.isdigit():  # once a day, wherever the clock jumps
        days = {firing.astimezone(ZoneInfo(zone)).date() for firing in found}
        assert len(days) == 30
        assert max(days) - min(days) == timedelta(days=29)
