"""Lists of runs on both databases: sorted, page by page, by an index."""

from __future__ import annotations

import itertools

import pytest
import sqlalchemy as sa

from thresher.core.errors import BadInput
from thresher.engine.work import Mode, NewRun, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.repositories.workspace_runs import Page, RunFilter, RunOrder, cursor_of, list_runs
from thresher.persistence.tables import RunRow

STATUSES = (RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.FAILED)
SECONDS = (0.1, 2.5, 1 / 3, 0.0)


@pytest.fixture
def runs(db: ThreadSafeDatabaseManager, store: SqlStore) -> int:
    """Some of each state, some that took equally long."""
    for status, seconds in itertools.product(STATUSES, SECONDS):
        run_id = store.create_run(NewRun("discovery", {}, {}, Mode.PARALLEL, "")).run_id
        values = sa.update(RunRow).where(RunRow.id == run_id).values(status=status.value, elapsed_seconds=seconds)
        db.write_with_lock(lambda session, values=values: session.execute(values) and None)
    return len(STATUSES) * len(SECONDS)


@pytest.mark.parametrize("order", RunOrder)
@pytest.mark.parametrize("is_turned", [True, False])
def test_every_order_is_read_page_by_page(
    db: ThreadSafeDatabaseManager, runs: int, order: RunOrder, *, is_turned: bool
) -> None:
    whole = list_runs(db, "default", RunFilter(), Page(100, None, is_turned, order))
    assert len(whole) == runs
    keys = {
        RunOrder.CREATED: lambda run: (run.run_id,),
        RunOrder.STATUS: lambda run: (run.status.value, run.run_id),
        RunOrder.ELAPSED: lambda run: (run.elapsed_seconds, run.run_id),
    }
    assert whole == sorted(whole, key=keys[order], reverse=is_turned)
    read, after = [], None
    while page := list_runs(db, "default", RunFilter(), Page(5, after, is_turned, order)):
        read += page
        after = cursor_of(page[-1], order)
    assert read == whole


@pytest.mark.parametrize(
    ("order", "cursor"),
    [
        (RunOrder.STATUS, "r1"),
        (RunOrder.STATUS, "mended~r1"),
        (RunOrder.ELAPSED, "long~r1"),
        (RunOrder.CREATED, "paused~r1"),
    ],
)
def test_a_cursor_of_another_list_is_refused(db: ThreadSafeDatabaseManager, order: RunOrder, cursor: str) -> None:
    with pytest.raises(BadInput, match="none of this list"):
        list_runs(db, "default", RunFilter(), Page(5, cursor, order=order))


@pytest.mark.parametrize("order", RunOrder)
def test_an_index_knows_every_order(db: ThreadSafeDatabaseManager, order: RunOrder) -> None:
    """Else each page would read and sort all runs of a workspace."""
    names = {index["name"]: index["column_names"] for index in sa.inspect(db.engine).get_indexes("runs")}
    column = "id" if order is RunOrder.CREATED else order.value
    assert any(columns[:2] == ["workspace", column] for columns in names.values())
