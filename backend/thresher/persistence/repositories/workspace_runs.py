"""The runs of a workspace for people: found, listed page by page, deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.core.errors import BadInput, NotFound, StateConflict
from thresher.engine.work import ENDED, Counts, Run, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.statements import ITEMS, NODE_FACTS, RUNS
from thresher.persistence.repositories.store import run_of
from thresher.persistence.tables import QueuedRunRow, RunRow

_QUEUE: Final[sa.Table] = sa.Table(QueuedRunRow.__tablename__, QueuedRunRow.metadata)
_run, _item, _fact = RUNS.c, ITEMS.c, NODE_FACTS.c


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are listed; empty and None: all. Times are those of creation."""

    statuses: Collection[RunStatus] = ()
    kind: str | None = None
    source_id: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class RunOrder(StrEnum):
    """What a list of runs is sorted by; equal ones are in the order of their creation.

    All but the first may change while somebody turns the pages: a run that changes may be seen twice, or not.
    """

    CREATED = "created_at"
    STATUS = "status"
    ELAPSED = "elapsed_seconds"


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: so many rows behind the one that ``cursor_of`` calls ``after``."""

    limit: int = 50
    after: str | None = None
    newest_first: bool = True  # or, by another order, the largest
    order: RunOrder = RunOrder.CREATED


_KEYS: Final = {  # each with an index of its own, behind the workspace
    RunOrder.CREATED: (_run.id,),
    RunOrder.STATUS: (_run.status, _run.id),
    RunOrder.ELAPSED: (_run.elapsed_seconds, _run.id),
}


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is."""

    counts: Counts = field(default_factory=Counts)
    facts: int = 0


def list_runs(db: ThreadSafeDatabaseManager, workspace: str, wanted: RunFilter, page: Page) -> Sequence[Run]:
    """A page of the runs of a workspace.

    Raises:
        BadInput: ``page.after`` is no cursor of this order.
    """
    query = sa.select(RunRow).where(_run.workspace == workspace, *_conditions(wanted)).limit(page.limit)
    keys = _KEYS[page.order]
    query = query.order_by(*(key.desc() if page.newest_first else key for key in keys))
    if page.after is not None:
        here, after = sa.tuple_(*keys), sa.tuple_(*_place(page))
        query = query.where(here < after if page.newest_first else here > after)
    with db.read() as session:
        return [run_of(row) for row in session.scalars(query)]


def cursor_of(run: Run, order: RunOrder) -> str:
    """The place of a run in a list, for ``Page.after``."""
    if order is RunOrder.CREATED:
        return run.run_id
    value = run.status.value if order is RunOrder.STATUS else repr(run.elapsed_seconds)
    return f"{value}~{run.run_id}"


def _place(page: Page) -> Iterator[sa.ColumnElement[Any]]:
    """The values of the sorted columns that a cursor stands for."""
    value, mark, run_id = (page.after or "").rpartition("~")
    if bool(mark) is (page.order is RunOrder.CREATED):
        raise _foreign_cursor()
    try:
        if page.order is RunOrder.STATUS:
            yield sa.literal(RunStatus(value).value)
        elif page.order is RunOrder.ELAPSED:
            yield sa.literal(float(value))
    except ValueError as error:
        raise _foreign_cursor() from error
    yield sa.literal(run_id)


def _foreign_cursor() -> BadInput:
    return BadInput("This cursor is none of this list: take `next` of the page before.")


def progress_of(db: ThreadSafeDatabaseManager, run_ids: Sequence[str]) -> Mapping[str, RunProgress]:
    """How far several runs are."""
    items = sa.select(_item.run_id, _item.status, sa.func.count()).where(_item.run_id.in_(run_ids))
    facts = sa.select(_fact.run_id, sa.func.count()).where(_fact.run_id.in_(run_ids)).group_by(_fact.run_id)
    counts: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
    with db.read() as session:
        for run_id, status, count in session.execute(items.group_by(_item.run_id, _item.status)):
            counts[run_id][status] = count
        found: dict[str, int] = dict(map(tuple, session.execute(facts)))
    return {run_id: RunProgress(Counts(**some), found.get(run_id, 0)) for run_id, some in counts.items()}


def delete_run(db: ThreadSafeDatabaseManager, run_id: str) -> None:
    """Deletes a run that nobody works on: its items, attempts and facts.

    One that has ended is worked on by nobody, though the one who did may not have taken it out of the queue yet.

    Raises:
        NotFound: no run has this identifier.
        StateConflict: somebody works on it.
    """
    in_hand = sa.select(_QUEUE.c.run_id).where(_QUEUE.c.run_id == run_id, _QUEUE.c.owner.is_not(None))

    def delete(session: Session) -> None:
        connection = session.connection()
        query = sa.select(_run.status).where(_run.id == run_id).with_for_update()
        status = connection.execute(query).scalar_one_or_none()
        if status is None:
            raise NotFound(f"No run is named {run_id!r}.")
        is_queued = RunStatus(status) not in ENDED and connection.execute(in_hand).first() is not None
        if status == RunStatus.RUNNING or is_queued:
            raise StateConflict(f"Run {run_id} is being worked on: pause or cancel it, then delete it.")
        connection.execute(RUNS.delete().where(_run.id == run_id))

    db.write_with_lock(delete)


def _conditions(wanted: RunFilter) -> Iterator[sa.ColumnElement[bool]]:
    if wanted.statuses:
        yield _run.status.in_([status.value for status in wanted.statuses])
    if wanted.kind is not None:
        yield _run.kind == wanted.kind
    if wanted.source_id is not None:
        yield _run.source_id == wanted.source_id
    if wanted.created_from is not None:
        yield _run.created_at >= wanted.created_from
    if wanted.created_before is not None:
        yield _run.created_at < wanted.created_before
