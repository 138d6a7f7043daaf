"""What the rows of a run add up to."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from thresher.engine.work import ItemStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.tables import ItemRow


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
