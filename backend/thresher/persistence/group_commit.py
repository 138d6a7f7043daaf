"""Optimistic group commit: threads hand in units of work, one of them runs all that wait and commits once.

How a group is written:

1. Whoever holds the mutex takes the units that wait and runs them in one transaction, without savepoints.
2. If all went well, one commit makes them durable and every caller gets its own result.
3. If one failed, the transaction is rolled back and every unit is run again under a savepoint of its own. Those
   that fail again give their exception to their own caller; the others are committed, once.

So a unit may run twice, of which one run is kept at most: it must only read and write by what it is given.
A unit that is interrupted (Ctrl-C in the leading thread) is rolled back; the callers of the others write theirs.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from thresher.core.errors import DatabaseUnavailable, StorageFailed
from thresher.persistence.failures import storage_failure, unusable_value

A = TypeVar("A")
R = TypeVar("R")
Batch = Callable[[sa.Connection, Sequence[A]], Sequence[R]]

_LARGEST_GROUP = 256  # units; bounds how long one thread works for the others
_GATHERING = 0.004  # seconds; about what a commit takes on a disk
IS_BOUNDED = "thresher_bounded"  # of a connection: whether its transactions write a bounded number of rows
_PATIENCE = 1.0  # seconds; only a thread that was interrupted while it passed the lead on can cost this much


class TransactionEnded(Exception):
    """Raised when a unit ended the transaction of its group itself: each is run again, under its own savepoint."""


class _Group:
    """The fate of units that are committed together: ``settled`` is stored once, for all of them at once."""

    __slots__ = ("settled",)

    def __init__(self) -> None:
        self.settled = False


class _Unit:
    """One caller's unit of work and what came of it; ``result`` and ``error`` count once the group is settled."""

    __slots__ = ("argument", "batch", "error", "group", "is_bounded", "result", "wake")

    def __init__(self, batch: Batch[Any, Any], argument: object, *, is_bounded: bool) -> None:
        self.batch = batch
        self.argument = argument
        self.is_bounded = is_bounded
        self.group: _Group | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def is_settled(self) -> bool:
        return self.group is not None and self.group.settled

    def wait(self, timeout: float = _PATIENCE) -> None:
        with contextlib.suppress(queue.Empty):
            self.wake.get(timeout=timeout)

    def outcome(self) -> Any:  # noqa: ANN401 - the batch's own type, restored by submit()
        if self.error is None:
            return self.result
        failure = storage_failure(self.error) or unusable_value(self.error)
        if failure is None:
            raise self.error
        # The same failure reaches many threads: each raises an exception of its own.
        raise type(failure)(str(failure)) from (self.error.__cause__ or self.error)


class Writer:
    """The one connection of a process that writes; used by the thread that holds the mutex.

    It is opened for the first transaction, kept, and opened again after it was lost.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None
        self._is_clean = True  # no transaction was left open, by a thread that was interrupted

    def begin(self, *, is_bounded: bool = False) -> sa.Connection:
        """The connection, in a transaction that has just begun, and says by ``IS_BOUNDED`` what kind it is."""
        if not self._is_clean:
            self.abandon()
        self._is_clean = False
        if self._connection is None:
            self._connection = self._engine.connect()
        self._connection.info[IS_BOUNDED] = is_bounded
        self._connection.begin()
        return self._connection

    def commit(self) -> None:
        """Commits. SQLite may be left within its transaction by a commit that fails: that connection is dropped."""
        if self._connection is None:
            return
        try:
            self._connection.commit()
        except Exception:
            self.abandon()
            raise

    def roll_back(self) -> bool:
        """Leaves no transaction open, whatever happened to it; says whether the connection was lost."""
        connection = self._connection
        lost = connection is not None and connection.invalidated
        try:
            if connection is not None and not lost:
                connection.rollback()
        except Exception:  # noqa: BLE001 - the connection is lost, and with it the transaction
            lost = True
        if lost:
            self.abandon()
        self._is_clean = True
        return lost

    def abandon(self) -> None:
        """Drops a connection of which nothing is certain any more; the database rolls back what it was doing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
            with contextlib.suppress(Exception):
                connection.close()

    def close(self) -> None:
        """Gives the connection back to the pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class GroupCommit:
    """Serializes the writes of a process behind one mutex and commits them in groups."""

    def __init__(self, engine: sa.Engine, before_join: Callable[[], None]) -> None:
        """``engine`` begins transactions for writing; ``before_join`` is called before a nested call's savepoint."""
        self._writer = Writer(engine)
        self._before_join = before_join
        self._waiting: deque[_Unit] = deque()
        self._mutex = threading.Lock()  # protects the writer: its holder is the one thread that writes
        self._writing: sa.Connection | None = None  # the writer's connection, in a transaction
        self._companions = 1  # units of the last group
        self._gatherer: _Unit | None = None  # the leader's, while it waits for its companions
        self._leader: int | None = None  # the thread that holds the mutex, by its identifier

    def submit(self, batch: Batch[A, R], argument: A, *, is_bounded: bool = False) -> R:
        """Runs ``batch(connection, [argument])`` in a transaction and returns its one result after the commit.

        Units of the same group with the same ``batch`` are handed to it in one call, as many arguments, so that
        it may write them by one statement; it returns one result per argument, in their order.

        Within a unit or ``transaction()`` of the same thread the call joins that transaction under a savepoint.
        ``is_bounded``: it writes a bounded number of rows (see ``ThreadSafeDatabaseManager.write_with_lock``).

        Raises:
            DatabaseUnavailable: the database does not answer for now; whether a commit that was under way when the
                connection was lost took place is then unknown.
            StorageFailed: the database can no longer be written.
            BadInput: a value cannot be stored, see ``unusable_value``.
            Exception: whatever the unit raised; nothing of it is kept.
        """
        if self._leader == threading.get_ident():
            with self._join() as connection:
                return batch(connection, [argument])[0]
        unit = _Unit(batch, argument, is_bounded=is_bounded)
        try:
            led = self._settle(unit)
        except BaseException:
            with contextlib.suppress(ValueError):
                self._waiting.remove(unit)
            self._pass_on()
            raise
        if led:
            self._pass_on()
        result: R = unit.outcome()
        return result

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of its own behind the same mutex; commits at the edge, rolls back on any exception.

        Within a unit or another ``transaction()`` of the same thread it joins that one under a savepoint.
        """
        if self._leader == threading.get_ident():
            with self._join() as connection:
                yield connection
            return
        try:
            with self._mutex, self._alone() as connection:
                yield connection
        except Exception as error:
            failure = storage_failure(error) or unusable_value(error)
            if failure is None or failure is error:
                raise
            raise failure from error
        finally:
            self._pass_on()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[sa.Connection]:
        """A transaction of the writer, for the holder of the mutex."""
        try:
            self._leader = threading.get_ident()
            self._writing = self._writer.begin()
            yield self._writing
            self._writer.commit()
        except Exception:
            raise
        except BaseException:
            self._writer.abandon()  # interrupted anywhere, even within SQLAlchemy
            raise
        finally:
            self._stop_leading()

    def close(self) -> None:
        """Gives the writer's connection back; waits for the group that is being written."""
        with self._mutex:
            self._writer.close()
        self._pass_on()

    @contextlib.contextmanager
    def _join(self) -> Iterator[sa.Connection]:
        if self._writing is None:
            raise RuntimeError("a write was handed in from within the writer, outside of any unit")
        self._before_join()
        with self._writing.begin_nested():
            yield self._writing

    def _settle(self, unit: _Unit) -> bool:
        """Gets a unit settled, by another thread or by this one; says whether this thread led."""
        self._waiting.append(unit)
        while not unit.is_settled():
            # To queue up for the mutex would be to wait for one more group after one's own unit is written.
            if self._mutex.locked():
                self._join_gathering()
                unit.wait()
                continue
            # Only `with` is safe from an interrupt between taking the mutex and being bound to release it.
            with self._mutex:
                if not unit.is_settled():
                    self._lead_own(unit)
                    return True
        return False

    def _lead_own(self, unit: _Unit) -> None:
        try:
            self._leader = threading.get_ident()
            self._gather(unit)
            self._lead(unit)
        except BaseException:
            self._writer.abandon()  # interrupted anywhere, even within SQLAlchemy
            raise
        finally:
            self._stop_leading()

    def _join_gathering(self) -> None:
        gatherer = self._gatherer
        if gatherer is not None and len(self._waiting) >= self._companions:
            gatherer.wake.put(None)

    def _gather(self, own: _Unit) -> None:
        """Waits a moment for as many units as the last group had, since its threads may be about to write again.

        Without this the first of them would write alone each time, before the others have been told. A thread
        without companions never waits, and fewer and fewer are waited for where they do not come.
        """
        until = time.monotonic() + _GATHERING
        self._gatherer = own
        while len(self._waiting) < self._companions and (left := until - time.monotonic()) > 0:
            own.wait(left)
        self._gatherer = None

    def _stop_leading(self) -> None:
        self._leader = self._writing = self._gatherer = None
        self._writer.roll_back()

    def _pass_on(self) -> None:
        """Wakes the first that waits: it leads next, unless somebody else was quicker and takes it along."""
        if self._waiting:
            with contextlib.suppress(IndexError):
                self._waiting[0].wake.put(None)

    def _take(self, own: _Unit) -> list[_Unit]:
        """The next group. A leader always leads its own unit, so that none depends on being in the queue."""
        units = [own]
        while self._waiting and len(units) < _LARGEST_GROUP:
            unit = self._waiting.popleft()
            if unit is not own and not unit.is_settled():
                units.append(unit)
        return units

    def _lead(self, own: _Unit) -> None:
        group = _Group()
        units = self._take(own)
        self._companions = max(len(units), self._companions // 2)
        try:
            for unit in units:
                unit.group = group
            self._write(units, group)
        except Exception as error:  # noqa: BLE001 - every caller of the group is told
            for unit in units:
                unit.error = error
            group.settled = True
        except BaseException:
            if not group.settled:
                self._waiting.extend(unit for unit in units if unit is not own)
            raise
        finally:
            for unit in units:
                if unit is not own:
                    unit.wake.put(None)

    def _write(self, units: list[_Unit], group: _Group) -> None:
        try:
            connection = self._run_together(units)
        except Exception as error:
            lost = self._writer.roll_back()
            failure = storage_failure(error)
            if failure is not None and not lost:
                raise failure from error
            if len(units) == 1 and not lost and not isinstance(error, TransactionEnded):
                units[0].error = error
                group.settled = True
                return
            connection = self._replay(units)
        self._commit(connection, units, group)

    def _run_together(self, units: list[_Unit]) -> sa.Connection:
        connection = self._writing = self._writer.begin(is_bounded=all(unit.is_bounded for unit in units))
        transaction = connection.get_transaction()
        batches: dict[Batch[Any, Any], list[_Unit]] = {}
        for unit in units:
            batches.setdefault(unit.batch, []).append(unit)
        for batch, members in batches.items():
            results = batch(connection, [unit.argument for unit in members])
            for unit, result in zip(members, results, strict=True):
                unit.result = result
        if connection.get_transaction() is not transaction:
            raise TransactionEnded
        return connection

    def _replay(self, units: list[_Unit]) -> sa.Connection:
        connection = self._writing = self._writer.begin()
        for unit in units:
            unit.result = None
            try:
                with connection.begin_nested():
                    (unit.result,) = unit.batch(connection, [unit.argument])
            except Exception as error:
                failure = storage_failure(error)
                if failure is not None:
                    raise failure from error
                unit.error = error
        return connection

    def _commit(self, connection: sa.Connection, units: list[_Unit], group: _Group) -> None:
        driver_connection = connection.connection.driver_connection
        try:
            self._writer.commit()
        except Exception as error:
            failure = storage_failure(error)
            raise failure or StorageFailed("The database refused to commit.") from error
        except BaseException:
            # Interrupted while the driver committed, or before the line below: a second commit must not follow.
            self._settle_interrupted(units, group, driver_connection)
            raise
        group.settled = True

    def _settle_interrupted(self, units: list[_Unit], group: _Group, driver_connection: object) -> None:
        """SQLite tells by its transaction whether the commit took place; PostgreSQL may have cancelled it."""
        if isinstance(driver_connection, sqlite3.Connection):
            group.settled = not driver_connection.in_transaction
            return
        for unit in units:
            unit.error = DatabaseUnavailable("The commit was interrupted; whether it took place is unknown.")
        group.settled = True
