"""What a workspace has done over time, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from thresher.engine.work import (
    AttemptRecord,
    AttemptStatus,
    Claim,
    Completion,
    ItemSpec,
    ItemStatus,
    Mode,
    NewRun,
    RunStatus,
    Usage,
)
from thresher.operations.dashboards import Span, dashboard, zone_of
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.store import SqlStore

NOW = datetime.now(UTC)


def worked_run(store: SqlStore, workspace: str, tries: list[tuple[timedelta, str | None, Usage]]) -> str:
    """A run with a node for each try: how long ago it was, and how it ended."""
    new = NewRun("discovery", {"name": "a.xml"}, {}, Mode.PARALLEL, "test", workspace)
    run_id = store.create_run(new).run_id
    store.add_items(run_id, [ItemSpec(f"/a[{n}]", (n,), b"") for n in range(len(tries))], len(tries))
    for ago, error, usage in tries:
        (claim,) = store.claim(run_id, "test", 1, 60)
        store.finish(ended(claim, NOW - ago, error, usage))
    return run_id


def ended(claim: Claim, when: datetime, error: str | None, usage: Usage) -> Completion:
    status = AttemptStatus.SUCCEEDED if error is None else AttemptStatus.FAILED
    record = AttemptRecord(claim.attempt, status, when, 0.1, usage, error, error, None)
    return Completion(claim, ItemStatus.SUCCEEDED if error is None else ItemStatus.DEAD, record)


def test_tries_are_counted_by_the_hour_they_began_in(db: ThreadSafeDatabaseManager, store: SqlStore) -> None:
    asked = Usage(1, 100, 20, 0, 0.25, 0, 400)
    unpriced, known = Usage(2, 10, 5, 0, None, 0, 40), Usage(0, 0, 0, 0, 0.0, 1, 0)
    worked_run(
        store,
        "default",
        [
            (timedelta(0), None, asked),
            (timedelta(hours=3), None, known),
            (timedelta(hours=3), "RateLimited", unpriced),
            (timedelta(hours=30), "RateLimited", asked),
        ],
    )
    worked_run(store, "others", [(timedelta(0), None, asked)])
    found = dashboard(db, "default", Span.DAY, "UTC", NOW)
    assert [step.read for step in found.steps if step.read] == [1, 1]
    assert (found.steps[-1].read, found.steps[-4].read, found.steps[-4].failed) == (1, 1, 1)
    whole = found.whole
    assert (whole.read, whole.failed, whole.requests, whole.tokens) == (2, 1, 3, 135)
    assert (whole.cost_usd, whole.unpriced, whole.cache_hits) == (pytest.approx(0.25), 2, 1)
    assert found.errors == {"RateLimited": 1}
    assert whole.runs == {RunStatus.PENDING: 1}
    assert not found.is_empty


def test_days_are_those_of_the_reader(db: ThreadSafeDatabaseManager, store: SqlStore) -> None:
    """At 20:00 UTC it is the next day already in Auckland; on the 25th of October Berlin's day has 25 hours."""
    late = datetime(2026, 10, 25, 20, tzinfo=UTC)
    worked_run(store, "default", [(NOW - late, None, Usage(0, 0, 0, 0, 0.0, 0, 0))])
    utc, auckland, berlin = (
        dashboard(db, "default", Span.WEEK, zone, late + timedelta(days=1))
        for zone in ("UTC", "Pacific/Auckland", "Europe/Berlin")
    )
    assert [step.read for step in utc.steps] == [0, 0, 0, 0, 0, 1, 0]
    assert [step.read for step in auckland.steps] == [0, 0, 0, 0, 0, 1, 0]
    assert auckland.steps[-2].begin == datetime(2026, 10, 25, 11, tzinfo=UTC)
    lengths = [after.begin - before.begin for before, after in zip(berlin.steps, berlin.steps[1:], strict=False)]
    assert max(lengths) == timedelta(hours=25)


def test_a_workspace_that_did_nothing_is_empty(db: ThreadSafeDatabaseManager) -> None:
    found = dashboard(db, "default", Span.MONTH, "Mars/Olympus", NOW)
    assert (found.is_empty, found.zone, len(found.steps)) == (True, "UTC", 30)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "\0", "a" * 300])
def test_what_is_no_zone_is_utc(name: str) -> None:
    assert zone_of(name).key == "UTC"
