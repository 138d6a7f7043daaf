"""Notifications as rows: written with what they tell of, so that no server that is killed loses one.

A row is there from the beginning of its run or batch, in the same transaction. It is due when that has ended, which is
in the database, too; it is sent under a lease, and sent again where the server was killed before it wrote how it went.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.core.errors import NotFound, StateConflict
from thresher.core.jobs import DeliveryEvent, DeliveryStatus
from thresher.engine.work import ENDED, NewRun
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.channels import CHANNELS, Channel, channel_of
from thresher.persistence.repositories.sortable_ids import SortableIds
from thresher.persistence.repositories.sources import telling_of_lost_source
from thresher.persistence.repositories.statements import RUNS
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.tables import BatchRow, DeliveryRow

DELIVERIES: Final[sa.Table] = sa.Table(DeliveryRow.__tablename__, DeliveryRow.metadata)
_BATCHES: Final[sa.Table] = sa.Table(BatchRow.__tablename__, BatchRow.metadata)
_delivery, _channel, _run, _batch = DELIVERIES.c, CHANNELS.c, RUNS.c, _BATCHES.c
_ids = SortableIds("n")
_FREE: Final = {"owner": None, "lease_until": None}


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification as it is stored. ``http_status`` and ``error``: of the last try."""

    delivery_id: str
    workspace: str
    channel_id: str
    event: DeliveryEvent
    run_id: str | None
    batch_id: str | None
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    payload: Mapping[str, Any] | None
    http_status: int | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is told of: a run or a batch."""

    run_id: str | None = None
    batch_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A notification that this process is to send."""

    delivery: Delivery
    channel: Channel
    owner: str


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """How a try went. ``retry_at`` None: there is none; ``error`` None: it was delivered."""

    payload: Mapping[str, Any] | None
    http_status: int | None = None
    error: str | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which notifications are listed; None: all."""

    status: DeliveryStatus | None = None
    channel_id: str | None = None
    run_id: str | None = None
    batch_id: str | None = None


_COLUMNS = [_delivery[name if name != "delivery_id" else "id"] for name in Delivery.__dataclass_fields__]


def check_channels(db: ThreadSafeDatabaseManager, workspace: str, names: Sequence[str]) -> None:
    """Refuses names that no channel of a workspace has.

    Raises:
        NotFound: says which.
    """
    if not names:
        return
    query = sa.select(_channel.name).where(_channel.workspace == workspace, _channel.name.in_(list(names)))
    with db.read() as session:
        known = set(session.scalars(query))
    for name in names:
        if name not in known:
            raise NotFound(f"No channel is named {name!r}: make it first, or leave it out of `notify`.")


def create_run_to_tell_of(db: ThreadSafeDatabaseManager, store: SqlStore, new: NewRun, names: Sequence[str]) -> str:
    """Stores and queues a run together with the notifications of its end; returns its identifier.

    Raises:
        NotFound: its document was deleted meanwhile.
    """

    def write(session: Session) -> str:
        run_id = store.add_run(session, new, queued=True)
        add_deliveries(session, new.workspace, names, datetime.now(UTC), Subject(run_id=run_id))
        return run_id

    with telling_of_lost_source(new.source_id):
        return db.write_with_lock(write)


def add_deliveries(session: Session, workspace: str, names: Sequence[str], now: datetime, subject: Subject) -> None:
    """Notifications of the end of a run or a batch: for these channels, and those that are always told.

    A name that no channel has (any more) is passed over.
    """
    wanted = sa.or_(_channel.name.in_(list(names)), _channel.is_always)
    query = sa.select(_channel.id).where(_channel.workspace == workspace, wanted)
    channels = session.connection().execute(query).scalars().all()
    _add(session, now, [{"workspace": workspace, "channel_id": one} for one in channels], subject)


def tell_again_of_run(db: ThreadSafeDatabaseManager, run_id: str) -> None:
    """Those who were told that a run has ended are told again when it ends again."""
    db.write_with_lock(lambda session: tell_again(session, datetime.now(UTC), Subject(run_id=run_id)))


def tell_again(session: Session, now: datetime, subject: Subject) -> None:
    """The same within a unit of the caller's, for a run or a batch."""
    mine = _delivery.run_id == subject.run_id if subject.run_id else _delivery.batch_id == subject.batch_id
    mine &= _delivery.event != DeliveryEvent.TEST.value
    still = sa.select(_delivery.channel_id).where(mine, _delivery.status == DeliveryStatus.WAITING.value)
    told = sa.select(_delivery.workspace, _delivery.channel_id).where(mine, _delivery.channel_id.not_in(still))
    rows = session.connection().execute(told.distinct()).all()
    _add(session, now, [{"workspace": row.workspace, "channel_id": row.channel_id} for row in rows], subject)


def add_test(db: ThreadSafeDatabaseManager, channel: Channel) -> Delivery:
    """A notification that tells of nothing, due at once."""
    now = datetime.now(UTC)
    row = {
        "id": _ids.new(now),
        "workspace": channel.workspace,
        "channel_id": channel.channel_id,
        "event": DeliveryEvent.TEST.value,
        "status": DeliveryStatus.DUE.value,
        "attempts": 0,
        "created_at": now,
    }
    db.write_with_lock(lambda session: session.connection().execute(DELIVERIES.insert(), row) and None)
    return get_delivery(db, channel.workspace, str(row["id"]))


def get_delivery(db: ThreadSafeDatabaseManager, workspace: str, delivery_id: str) -> Delivery:
    """A notification of a workspace.

    Raises:
        NotFound: it has none of this name.
    """
    query = sa.select(*_COLUMNS).where(_delivery.id == delivery_id, _delivery.workspace == workspace)
    with db.read() as session:
        row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"No delivery is named {delivery_id!r}.")
    return _delivery_of(row)


def list_deliveries(
    db: ThreadSafeDatabaseManager, workspace: str, wanted: DeliveryFilter, limit: int, before: str | None = None
) -> Sequence[Delivery]:
    """The newest notifications of a workspace first; ``before`` is the last identifier of the page above."""
    query = sa.select(*_COLUMNS).where(_delivery.workspace == workspace)
    for name in DeliveryFilter.__dataclass_fields__:
        if (value := getattr(wanted, name)) is not None:
            query = query.where(_delivery[name] == str(value))
    if before is not None:
        query = query.where(_delivery.id < before)
    with db.read() as session:
        return [_delivery_of(row) for row in session.execute(query.order_by(_delivery.id.desc()).limit(limit))]


def repeat_delivery(db: ThreadSafeDatabaseManager, delivery: Delivery) -> Delivery:
    """Sends a notification again, with fresh tries: the same words under the same identifier.

    Raises:
        StateConflict: it is still to be sent, or is being sent.
    """
    at_rest = [DeliveryStatus.DELIVERED.value, DeliveryStatus.FAILED.value]
    again = DELIVERIES.update().where(_delivery.id == delivery.delivery_id, _delivery.status.in_(at_rest))
    again = again.values(status=DeliveryStatus.DUE.value, attempts=0, next_attempt_at=None, ended_at=None)
    if not db.write_with_lock(lambda session: session.connection().execute(again).rowcount):
        raise StateConflict(f"Delivery {delivery.delivery_id} is {delivery.status}: it will be sent anyway.")
    return get_delivery(db, delivery.workspace, delivery.delivery_id)


# -- what servers do ----------------------------------------------------------------------------------------


def make_due(db: ThreadSafeDatabaseManager) -> None:
    """Notifications of what has ended become due."""
    ended = [status.value for status in ENDED]
    run_has = sa.select(_run.id).where(_run.id == _delivery.run_id, _run.status.in_(ended))
    batch_has = sa.select(_batch.id).where(_batch.id == _delivery.batch_id, _batch.finished_at.is_not(None))
    has_ended = sa.or_(run_has.correlate(DELIVERIES).exists(), batch_has.correlate(DELIVERIES).exists())
    waiting = (_delivery.status == DeliveryStatus.WAITING.value) & has_ended
    with db.read() as session:
        if session.execute(sa.select(_delivery.id).where(waiting).limit(1)).first() is None:  # as most times
            return
    due = DELIVERIES.update().where(waiting).values(status=DeliveryStatus.DUE.value)
    db.write_with_lock(lambda session: session.connection().execute(due) and None)


def claim_deliveries(db: ThreadSafeDatabaseManager, owner: str, limit: int, lease: float) -> Sequence[ClaimedDelivery]:
    """Leases up to ``limit`` notifications that are due for ``lease`` seconds, the oldest first."""
    now = datetime.now(UTC)
    is_time = sa.or_(_delivery.next_attempt_at.is_(None), _delivery.next_attempt_at <= now)
    due = sa.select(_delivery.id).where(_delivery.status == DeliveryStatus.DUE.value, is_time)
    due = due.order_by(_delivery.id).limit(limit)
    with db.read() as session:
        if limit < 1 or session.execute(due.limit(1)).first() is None:
            return ()

    def lease_them(session: Session) -> list[ClaimedDelivery]:
        connection = session.connection()
        found = connection.execute(due.with_for_update(skip_locked=True)).scalars().all()
        leased = {"owner": owner, "lease_until": now + timedelta(seconds=lease), "next_attempt_at": None}
        sending = DELIVERIES.update().where(_delivery.id.in_(found))
        connection.execute(
            sending.values(status=DeliveryStatus.SENDING.value, attempts=_delivery.attempts + 1, **leased)
        )
        query = sa.select(*_COLUMNS, *_channel).join_from(DELIVERIES, CHANNELS, _channel.id == _delivery.channel_id)
        rows = connection.execute(query.where(_delivery.id.in_(found)).order_by(_delivery.id)).all()
        split = len(_COLUMNS)
        return [ClaimedDelivery(_delivery_of(row[:split]), channel_of(row[split:]), owner) for row in rows]

    return db.write_with_lock(lease_them)


def finish_delivery(db: ThreadSafeDatabaseManager, claimed: ClaimedDelivery, outcome: DeliveryOutcome) -> None:
    """Writes how a try went, unless the lease was lost meanwhile."""
    status = DeliveryStatus.DELIVERED if outcome.error is None else DeliveryStatus.FAILED
    held = (_delivery.id == claimed.delivery.delivery_id) & (_delivery.owner == claimed.owner)
    update = DELIVERIES.update().where(held)
    update = update.values(
        status=(DeliveryStatus.DUE if outcome.retry_at else status).value,
        payload=outcome.payload,
        http_status=outcome.http_status,
        error=outcome.error,
        next_attempt_at=outcome.retry_at,
        ended_at=None if outcome.retry_at else datetime.now(UTC),
        **_FREE,
    )
    db.write_with_lock(lambda session: session.connection().execute(update) and None)


def renew_deliveries(db: ThreadSafeDatabaseManager, owner: str, lease: float) -> None:
    """Extends all leases of ``owner`` to ``lease`` seconds from now."""
    until = datetime.now(UTC) + timedelta(seconds=lease)
    renewed = DELIVERIES.update().where(_delivery.owner == owner).values(lease_until=until)
    db.write_with_lock(lambda session: session.connection().execute(renewed) and None)


def recover_deliveries(db: ThreadSafeDatabaseManager, is_dead: Callable[[str], bool]) -> None:
    """Frees notifications whose lease is over, or whose owner is dead: they are sent again."""
    held = sa.select(_delivery.owner, sa.func.min(_delivery.lease_until, type_=_delivery.lease_until.type))
    now = datetime.now(UTC)
    with db.read() as session:
        rows = session.execute(held.where(_delivery.owner.is_not(None)).group_by(_delivery.owner)).all()
    dead = [str(owner) for owner, _until in rows if is_dead(str(owner))]
    if dead or any(until <= now for _owner, until in rows):
        _release(db, sa.or_(_delivery.owner.in_(dead), _delivery.lease_until <= now))


def release_deliveries_of(db: ThreadSafeDatabaseManager, owner: str) -> None:
    """Gives back all notifications that ``owner`` has in hand."""
    _release(db, _delivery.owner == owner)


def _release(db: ThreadSafeDatabaseManager, which: sa.ColumnElement[bool]) -> None:
    freed = DELIVERIES.update().where(_delivery.owner.is_not(None), which)
    freed = freed.values(status=DeliveryStatus.DUE.value, **_FREE)
    db.write_with_lock(lambda session: session.connection().execute(freed) and None)


def _add(session: Session, now: datetime, told: Sequence[Mapping[str, str]], subject: Subject) -> None:
    event = DeliveryEvent.RUN_ENDED if subject.run_id else DeliveryEvent.BATCH_ENDED
    common = {
        "event": event.value,
        "run_id": subject.run_id,
        "batch_id": subject.batch_id,
        "status": DeliveryStatus.WAITING.value,
        "attempts": 0,
        "created_at": now,
    }
    if rows := [{**one, **common, "id": _ids.new(now)} for one in told]:
        session.connection().execute(DELIVERIES.insert().inline(), rows)


def _delivery_of(row: Sequence[Any]) -> Delivery:
    values: dict[str, Any] = dict(zip(Delivery.__dataclass_fields__, row, strict=True))
    values["event"] = DeliveryEvent(values["event"])
    values["status"] = DeliveryStatus(values["status"])
    return Delivery(**values)
