"""What the rows of a run add up to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from thresher.engine.work import AttemptStatus, ItemStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.tables import AttemptRow, ItemRow


def stage_counts(db: ThreadSafeDatabaseManager, run_id: str) -> dict[str, int]:
    """How many items a run has of each stage."""
    query = sa.select(ItemRow.stage, sa.func.count()).where(ItemRow.run_id == run_id).group_by(ItemRow.stage)
    with db.read() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def error_summary(db: ThreadSafeDatabaseManager, run_id: str) -> list[dict[str, Any]]:
    """The dead items of a run by error class, most frequent first; message and place are those of the first one."""
    dead = (ItemRow.run_id == run_id) & (ItemRow.status == ItemStatus.DEAD.value)
    first = sa.func.min(ItemRow.position)
    groups = sa.select(ItemRow.error_class, sa.func.count().label("count"), first.label("first"))
    found = groups.where(dead).group_by(ItemRow.error_class).subquery()
    query = (
        sa.select(found.c.error_class, found.c.count, ItemRow.error_message, ItemRow.key)
        .join(ItemRow, (ItemRow.position == found.c.first) & dead & (ItemRow.error_class == found.c.error_class))
        .order_by(found.c.count.desc(), found.c.error_class)
    )
    with db.read() as session:
        return [
            {"class": error_class, "count": count, "message": message, "where": key}
            for error_class, count, message, key in session.execute(query)
        ]


@dataclass(frozen=True, slots=True)
class TimedAttempt:
    """A try at an item, as far as it tells how a run goes. ``key`` is the item's; ``duration`` in seconds."""

    key: str
    item_id: int
    number: int
    started_at: datetime
    duration: float
    error_class: str | None
    error_message: str | None


def last_durations(db: ThreadSafeDatabaseManager, run_id: str, limit: int) -> list[float]:
    """How long the newest attempts of a run took, in seconds."""
    query = sa.select(AttemptRow.duration_seconds).where(AttemptRow.run_id == run_id)
    with db.read() as session:
        return list(session.scalars(query.order_by(AttemptRow.id.desc()).limit(limit)))


def slowest_attempts(db: ThreadSafeDatabaseManager, run_id: str, limit: int) -> list[TimedAttempt]:
    """The attempts of a run that took longest, the longest first."""
    return _timed(db, run_id, AttemptRow.duration_seconds.desc(), limit)


def last_failures(db: ThreadSafeDatabaseManager, run_id: str, limit: int) -> list[TimedAttempt]:
    """The newest failed or lost attempts of a run, the newest last."""
    failed = AttemptRow.status.in_([AttemptStatus.FAILED.value, AttemptStatus.LOST.value])
    return _timed(db, run_id, AttemptRow.id.desc(), limit, failed)[::-1]


def _timed(
    db: ThreadSafeDatabaseManager,
    run_id: str,
    order: sa.UnaryExpression[Any],
    limit: int,
    *more: sa.ColumnElement[bool],
) -> list[TimedAttempt]:
    attempt = AttemptRow
    query = (
        sa.select(
            ItemRow.key,
            attempt.item_id,
            attempt.number,
            attempt.started_at,
            attempt.duration_seconds,
            attempt.error_class,
            attempt.error_message,
        )
        .join(ItemRow, ItemRow.id == attempt.item_id)
        .where(attempt.run_id == run_id, *more)
        .order_by(order, attempt.id)
        .limit(limit)
    )
    with db.read() as session:
        return [TimedAttempt(*row) for row in session.execute(query)]
