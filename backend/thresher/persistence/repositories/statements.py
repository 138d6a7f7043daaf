"""The statements of the hot path, built once: the same for SQLite and PostgreSQL."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa

from thresher.engine.work import ItemStatus
from thresher.persistence.tables import AttemptRow, ItemPayloadRow, ItemRow, NodeFactRow, RunRow

ITEMS: Final[sa.Table] = sa.Table(ItemRow.__tablename__, ItemRow.metadata)
PAYLOADS: Final[sa.Table] = sa.Table(ItemPayloadRow.__tablename__, ItemPayloadRow.metadata)
ATTEMPTS: Final[sa.Table] = sa.Table(AttemptRow.__tablename__, AttemptRow.metadata)
RUNS: Final[sa.Table] = sa.Table(RunRow.__tablename__, RunRow.metadata)
NODE_FACTS: Final[sa.Table] = sa.Table(NodeFactRow.__tablename__, NodeFactRow.metadata)

_item, _run = ITEMS.c, RUNS.c

PAYLOAD_OF_ITEM: Final = (
    sa.select(PAYLOADS.c.payload).where(PAYLOADS.c.item_id == _item.id).correlate(ITEMS).scalar_subquery()
)


def _claim() -> sa.Update:
    """Leases the first due items, of a run that is not asked to stop.

    On PostgreSQL rows that another process is claiming are passed over.
    """
    is_free = sa.exists().where(_run.id == sa.bindparam("run_id_"), _run.requested.is_(None))
    due = (
        sa.select(_item.id)
        .where(
            _item.run_id == sa.bindparam("run_id_"),
            _item.status == ItemStatus.PENDING.value,
            sa.or_(_item.next_attempt_at.is_(None), _item.next_attempt_at <= sa.bindparam("now")),
            is_free,
        )
        .order_by(_item.position, _item.id)
        .limit(sa.bindparam("limit_"))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        ITEMS.update()
        .where(_item.id.in_(sa.select(due.c.id)))
        .values(
            status=ItemStatus.RUNNING.value,
            attempts_started=_item.attempts_started + 1,
            next_attempt_at=None,
            lease_owner=sa.bindparam("owner"),
            lease_until=sa.bindparam("until"),
            started_at=sa.bindparam("now"),
        )
        .returning(
            _item.id,
            _item.key,
            _item.position,
            _item.stage,
            PAYLOAD_OF_ITEM,
            _item.attributes,
            _item.attempts_started,
            _item.failures,
            _item.losses,
        )
    )


def _held() -> tuple[sa.ColumnElement[bool], ...]:
    """Only the attempt that holds the lease may write the end of it."""
    return (
        _item.id == sa.bindparam("held_item"),
        _item.lease_owner == sa.bindparam("held_by"),
        _item.attempts_started == sa.bindparam("held_attempt"),
    )


def _finish() -> sa.Update:
    return (
        ITEMS.update()
        .where(*_held())
        .values(
            status=sa.bindparam("new_status"),
            lease_owner=sa.null(),
            lease_until=sa.null(),
            failures=_item.failures + sa.bindparam("failed", type_=sa.Integer()),
            next_attempt_at=sa.bindparam("retry_at"),
            finished_at=sa.bindparam("ended_at"),
            skip_reason=sa.bindparam("reason"),
            error_class=sa.bindparam("failed_with"),
            error_message=sa.bindparam("failed_because"),
            result=sa.bindparam("yielded"),
        )
    )


def _given_back() -> sa.Update:
    """As if the items had not been claimed; which ones is added by who uses it."""
    return ITEMS.update().values(
        status=sa.literal_column(f"'{ItemStatus.PENDING.value}'"),
        lease_owner=sa.null(),
        lease_until=sa.null(),
        attempts_started=_item.attempts_started - sa.literal_column("1"),
    )


def insert_new_items(dialect: str) -> sa.Insert:
    """Passes over keys that the run has already; each dialect has a construct of its own for the same clause."""
    insert: Any = import_module(f"sqlalchemy.dialects.{dialect}").insert  # the other one would take 4 MB of memory
    passing_over: sa.Insert = insert(ITEMS).on_conflict_do_nothing(index_elements=["run_id", "key"])
    return passing_over.returning(_item.id, _item.key)


REQUESTED: Final = sa.select(_run.requested).where(_run.id == sa.bindparam("asked_run"))
INSERT_ATTEMPTS: Final = ATTEMPTS.insert().inline()
INSERT_NODE_FACTS: Final = NODE_FACTS.insert().inline()
DELETE_NODE_FACTS: Final = NODE_FACTS.delete().where(NODE_FACTS.c.item_id == sa.bindparam("finished_item"))
CLAIM: Final = _claim()
FINISH: Final = _finish()
INSERT_PAYLOADS: Final = PAYLOADS.insert().inline()
DROP_PAYLOADS: Final = PAYLOADS.delete().where(PAYLOADS.c.item_id == sa.bindparam("held_item"))
GIVEN_BACK: Final = _given_back()
RELEASE: Final = GIVEN_BACK.where(*_held())
BEGIN: Final = ITEMS.update().where(*_held()).values(begun=_item.attempts_started)
RENEW: Final = (
    ITEMS.update().where(_item.lease_owner == sa.bindparam("owner")).values(lease_until=sa.bindparam("until"))
)
