"""Schedules as rows: what is begun when, and when next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.core.errors import NotFound
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.batches import NewBatch, NewDocument, add_batch
from thresher.persistence.repositories.sortable_ids import SortableIds
from thresher.persistence.tables import BatchRow, ScheduledDocumentRow, ScheduleRow

SCHEDULES: Final[sa.Table] = sa.Table(ScheduleRow.__tablename__, ScheduleRow.metadata)
_DOCUMENTS: Final[sa.Table] = sa.Table(ScheduledDocumentRow.__tablename__, ScheduledDocumentRow.metadata)
_BATCHES: Final[sa.Table] = sa.Table(BatchRow.__tablename__, BatchRow.metadata)
_schedule, _document, _batch = SCHEDULES.c, _DOCUMENTS.c, _BATCHES.c
_ids = SortableIds("s")


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to be. ``next_at``: when it fires first."""

    name: str
    expression: str
    time_zone: str
    next_at: datetime | None
    template_id: str | None
    documents: Sequence[NewDocument]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored. ``fired_at``: when it fired last."""

    schedule_id: str
    workspace: str
    name: str
    expression: str
    time_zone: str
    template_id: str | None
    is_paused: bool
    next_at: datetime | None
    fired_at: datetime | None
    created_at: datetime


def create_schedule(db: ThreadSafeDatabaseManager, workspace: str, new: NewSchedule) -> Schedule:
    """Stores a schedule with its documents."""
    now = datetime.now(UTC)
    schedule_id = _ids.new(now)
    row = {"id": schedule_id, "workspace": workspace, **_values(new), "is_paused": False, "created_at": now}

    def write(session: Session) -> None:
        session.connection().execute(SCHEDULES.insert(), row)
        _write_documents(session, schedule_id, new.documents)

    db.write_with_lock(write)
    return get_schedule(db, schedule_id)


def replace_schedule(db: ThreadSafeDatabaseManager, schedule: Schedule, new: NewSchedule) -> Schedule:
    """Puts another schedule in the place of one; a paused one stays paused."""

    def write(session: Session) -> None:
        connection = session.connection()
        is_me = _schedule.id == schedule.schedule_id
        values = _values(new) | ({"next_at": None} if schedule.is_paused else {})
        connection.execute(SCHEDULES.update().where(is_me).values(values))
        connection.execute(_DOCUMENTS.delete().where(_document.schedule_id == schedule.schedule_id))
        _write_documents(session, schedule.schedule_id, new.documents)

    db.write_with_lock(write)
    return get_schedule(db, schedule.schedule_id)


def get_schedule(db: ThreadSafeDatabaseManager, schedule_id: str) -> Schedule:
    """A schedule by its identifier.

    Raises:
        NotFound: there is none.
    """
    with db.read() as session:
        row = session.execute(sa.select(SCHEDULES).where(_schedule.id == schedule_id)).one_or_none()
    if row is None:
        raise NotFound(f"No schedule is named {schedule_id!r}.")
    return Schedule(*row)


def list_schedules(
    db: ThreadSafeDatabaseManager, workspace: str, limit: int, after: str | None = None
) -> Sequence[Schedule]:
    """A page of the schedules of a workspace, the oldest first, behind the one with the identifier ``after``."""
    query = sa.select(SCHEDULES).where(_schedule.workspace == workspace, _schedule.id > (after or ""))
    with db.read() as session:
        return [Schedule(*row) for row in session.execute(query.order_by(_schedule.id).limit(limit))]


def upcoming_schedules(db: ThreadSafeDatabaseManager, workspace: str, limit: int) -> Sequence[Schedule]:
    """The schedules of a workspace that fire next, the soonest first."""
    query = sa.select(SCHEDULES).where(_schedule.workspace == workspace, _schedule.next_at.is_not(None))
    with db.read() as session:
        return [Schedule(*row) for row in session.execute(query.order_by(_schedule.next_at).limit(limit))]


def documents_of_schedule(db: ThreadSafeDatabaseManager, schedule_id: str) -> Sequence[NewDocument]:
    """What a schedule has read, in order; neither address nor source: it was kept, and is no longer."""
    columns = (_document.name, _document.url, _document.source_id)
    query = sa.select(*columns).where(_document.schedule_id == schedule_id).order_by(_document.number)
    with db.read() as session:
        return [NewDocument(*row) for row in session.execute(query)]


def last_batch_of(db: ThreadSafeDatabaseManager, schedule_id: str) -> str | None:
    """The batch that a schedule has begun last."""
    with db.read() as session:
        newest = sa.select(sa.func.max(_batch.id)).where(_batch.schedule_id == schedule_id)
        batch_id: str | None = session.execute(newest).scalar_one()
    return batch_id


def pause_schedule(db: ThreadSafeDatabaseManager, schedule_id: str) -> None:
    """Has a schedule fire no more."""
    paused = SCHEDULES.update().where(_schedule.id == schedule_id).values(is_paused=True, next_at=None)
    db.write_with_lock(lambda session: session.connection().execute(paused) and None)


def resume_schedule(db: ThreadSafeDatabaseManager, schedule_id: str, next_at: datetime | None) -> None:
    """Has a schedule fire again, first at ``next_at``; one that is not paused stays as it is."""
    is_paused = (_schedule.id == schedule_id) & _schedule.is_paused
    resumed = SCHEDULES.update().where(is_paused).values(is_paused=False, next_at=next_at)
    db.write_with_lock(lambda session: session.connection().execute(resumed) and None)


def delete_schedule(db: ThreadSafeDatabaseManager, schedule_id: str) -> None:
    """Deletes a schedule; the batches that it has begun stay."""
    delete = SCHEDULES.delete().where(_schedule.id == schedule_id)
    db.write_with_lock(lambda session: session.connection().execute(delete) and None)


def due_schedules(db: ThreadSafeDatabaseManager, now: datetime) -> Sequence[Schedule]:
    """The schedules that are to fire by now, the most overdue first."""
    query = sa.select(SCHEDULES).where(_schedule.next_at <= now).order_by(_schedule.next_at)
    with db.read() as session:
        return [Schedule(*row) for row in session.execute(query)]


def fire(
    db: ThreadSafeDatabaseManager, schedule: Schedule, next_at: datetime | None, new: NewBatch, now: datetime
) -> str | None:
    """Begins the batch of a schedule that is due, and says when it fires next, in one transaction.

    None where another server has fired it meanwhile, or it was paused, changed or deleted: each firing happens once.
    """
    as_seen = (_schedule.id == schedule.schedule_id) & (_schedule.next_at == schedule.next_at)
    fired = SCHEDULES.update().where(as_seen).values(next_at=next_at, fired_at=now)

    def write(session: Session) -> str | None:
        return add_batch(session, new, now) if session.connection().execute(fired).rowcount else None

    return db.write_with_lock(write)


def _values(new: NewSchedule) -> dict[str, Any]:
    return {name: getattr(new, name) for name in ("name", "expression", "time_zone", "next_at", "template_id")}


def _write_documents(session: Session, schedule_id: str, documents: Sequence[NewDocument]) -> None:
    rows = [
        {"schedule_id": schedule_id, "number": number, **{name: asdict(document)[name] for name in _KEPT}}
        for number, document in enumerate(documents, 1)
    ]
    session.connection().execute(_DOCUMENTS.insert().inline(), rows)


_KEPT = ("url", "name", "source_id")
