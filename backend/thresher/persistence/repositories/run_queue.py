"""The runs that servers are to work on, as rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.engine.ports import QueuedRun
from thresher.engine.work import ENDED, ItemStatus, Priority, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.statements import ITEMS, RUNS
from thresher.persistence.tables import QueuedRunRow

QUEUE: Final[sa.Table] = sa.Table(QueuedRunRow.__tablename__, QueuedRunRow.metadata)
_queued, _run, _item = QUEUE.c, RUNS.c, ITEMS.c
_ENDED = tuple(status.value for status in ENDED)


class SqlRunQueue:
    """``thresher.engine.ports.RunQueue`` over a database. All methods are safe to call from any thread."""

    def __init__(
        self, db: ThreadSafeDatabaseManager, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._db = db
        self._clock = clock

    def take(self, owner: str, lease: float, full: Collection[Priority], in_hand: Collection[str]) -> QueuedRun | None:
        """Leases the next run to ``owner`` for ``lease`` seconds; None where there is none to take."""
        now = self._clock()
        free = sa.or_(_queued.owner.is_(None), _queued.lease_until <= now)
        next_one = (
            sa.select(_queued.run_id, _run.priority, _queued.queued_at)
            .join_from(QUEUE, RUNS, _run.id == _queued.run_id)
            .where(free, _queued.run_id.not_in(in_hand))
            .where(_run.requested.is_(None), _run.priority.not_in([int(priority) for priority in full]))
            .order_by(_run.priority, _queued.queued_at, _queued.run_id)
            .limit(1)
        )
        with self._db.read() as session:
            if session.execute(next_one).first() is None:  # as most times
                return None

        def lease_it(session: Session) -> QueuedRun | None:
            found = session.execute(next_one.with_for_update(skip_locked=True, of=QUEUE)).one_or_none()
            if found is None:
                return None
            values = {"owner": owner, "lease_until": now + timedelta(seconds=lease)}
            session.execute(QUEUE.update().where(_queued.run_id == found.run_id).values(values))
            return QueuedRun(found.run_id, Priority(found.priority), found.queued_at)

        return self._db.write_with_lock(lease_it)

    def holds(self, run_id: str) -> bool:
        """Whether a server is to work on a run, or does."""
        with self._db.read() as session:
            return session.execute(sa.select(_queued.run_id).where(_queued.run_id == run_id)).first() is not None

    def renew(self, owner: str, lease: float, in_hand: Collection[str]) -> int:
        """Extends the leases of ``owner`` on these runs to ``lease`` seconds from now; returns how many there are."""
        until = self._clock() + timedelta(seconds=lease)
        mine = (_queued.owner == owner) & _queued.run_id.in_(in_hand)
        renewed = QUEUE.update().where(mine).values(lease_until=until)
        return self._db.write_with_lock(lambda session: session.connection().execute(renewed).rowcount)

    def recover(self, is_dead: Callable[[str], bool]) -> None:
        """Frees the runs of owners that are dead, and removes those free ones that have ended or were stopped."""
        owners = sa.select(_queued.owner).where(_queued.owner.is_not(None)).distinct()
        leftover = sa.select(_queued.run_id).where(_queued.owner.is_(None), _is_over())
        with self._db.read() as session:
            dead = [owner for owner in session.scalars(owners).all() if owner is not None and is_dead(owner)]
            if not dead and session.execute(leftover.limit(1)).first() is None:
                return

        def free(session: Session) -> None:
            connection = session.connection()
            connection.execute(QUEUE.update().where(_queued.owner.in_(dead)).values(owner=None, lease_until=None))
            connection.execute(QUEUE.delete().where(_queued.owner.is_(None), _is_over()))

        self._db.write_with_lock(free)

    def put_back(self, taken: QueuedRun, owner: str) -> None:
        """Gives a run back that is to go on with another server; it is pending until then."""

        def give_back(session: Session) -> None:
            connection = session.connection()
            if _free(connection, taken.run_id, owner):
                _make_pending(connection, taken.run_id)

        self._db.write_with_lock(give_back)

    def remove(self, taken: QueuedRun, owner: str) -> None:
        """Takes a run out of the queue that is done with; where it was queued anew meanwhile, it is free again."""
        as_taken = (_queued.run_id == taken.run_id) & (_queued.queued_at == taken.queued_at)

        def take_out(session: Session) -> None:
            connection = session.connection()
            gone = connection.execute(QUEUE.delete().where(as_taken, _queued.owner == owner)).rowcount
            if not gone and _free(connection, taken.run_id, owner):
                _make_pending(connection, taken.run_id)

        self._db.write_with_lock(take_out)

    def add(self, run_id: str) -> None:
        """Queues a run that has stopped, or is about to; see ``enqueue``."""
        now = self._clock()

        self._db.write_with_lock(lambda session: requeue(session.connection(), run_id, now))


def enqueue(connection: sa.Connection, run_id: str, now: datetime) -> None:
    """Queues a run in the transaction of ``connection``; one that is queued is queued anew, whoever works on it."""
    insert: Any = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert
    new = insert(QUEUE).values(run_id=run_id, queued_at=now)
    connection.execute(new.on_conflict_do_update(index_elements=["run_id"], set_={"queued_at": new.excluded.queued_at}))


def requeue(connection: sa.Connection, run_id: str, now: datetime) -> None:
    """Queues a run that has stopped, or is about to, in the transaction of ``connection``; it is pending then."""
    enqueue(connection, run_id, now)
    _make_pending(connection, run_id)


def _is_over() -> sa.ColumnElement[bool]:
    """Nothing of the run is to be done: it was stopped by somebody, or has ended with nothing left open.

    (What was retried while its session came to an end is open, whatever that session has said of the run.)
    """
    pending = sa.select(_item.id).where(_item.run_id == _run.id, _item.status == ItemStatus.PENDING.value)
    nothing_left = sa.and_(_run.status.in_(_ENDED), _run.planning_complete, ~pending.correlate(RUNS).exists())
    stopped = sa.or_(_run.requested.is_not(None), _run.status == RunStatus.CANCELLED.value)
    return sa.select(_run.id).where(_run.id == _queued.run_id, sa.or_(stopped, nothing_left)).correlate(QUEUE).exists()


def _free(connection: sa.Connection, run_id: str, owner: str) -> bool:
    held = QUEUE.update().where(_queued.run_id == run_id, _queued.owner == owner)
    return bool(connection.execute(held.values(owner=None, lease_until=None)).rowcount)


def _make_pending(connection: sa.Connection, run_id: str) -> None:
    """A run that waits for a server; not one that another process works on just now."""
    stopped = (_run.id == run_id) & (_run.status != RunStatus.RUNNING.value)
    values = {"status": RunStatus.PENDING.value, "error": None, "finished_at": None}
    connection.execute(RUNS.update().where(stopped).values(values))
