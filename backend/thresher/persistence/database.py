"""The database as a process sees it: one engine, reads by any thread, writes one group at a time."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import local
from typing import Any, NoReturn, TypeVar

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy import event, exc
from sqlalchemy.orm import ORMExecuteState, Session, scoped_session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from thresher.core.errors import DatabaseUnusable
from thresher.engine.work import JsonText
from thresher.persistence.failures import storage_failure, unusable_value
from thresher.persistence.group_commit import IS_BOUNDED, Batch, GroupCommit, TransactionEnded
from thresher.persistence.lookups import LookUp, Lookups

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

_OLDEST_SQLITE = (3, 35)  # the first with UPDATE ... RETURNING
_CHECKPOINT_PAGES = 4_000  # of 4 KiB: SQLite's default of 1,000 syncs the disk four times as often
_PAGE_CACHE_KIB = 512  # per connection; SQLite's default of 2 MB is too much for 64 threads
_KEPT_CONNECTIONS = 5  # stay open in the pool; more are opened when needed and closed after use
_POSTGRES_CONNECTIONS = 64  # at most, for one process

# How a transaction begins, as an execution option: a writer takes SQLite's write lock at once, a reader never.
_ACCESS = "thresher_access"
_IN_MEMORY = "thresher_in_memory"
WRITE_ACCESS: Mapping[str, Any] = {_ACCESS: "write"}
READ_ACCESS: Mapping[str, Any] = {_ACCESS: "read", "postgresql_readonly": True}
# PostgreSQL would see another state with each statement of a transaction; SQLite never does.
_SNAPSHOTS: Mapping[str, Mapping[str, Any]] = {"postgresql": {"isolation_level": "REPEATABLE READ"}}


def create_engine(url: str, *, busy_timeout: float = 30.0, connect_timeout: float = 10.0) -> sa.Engine:
    """Opens a database by its SQLAlchemy URL and makes sure that it answers.

    ``sqlite:///file`` (one connection per transaction, WAL) or ``postgresql://user@host/name`` (psycopg 3).
    ``sqlite://`` is a file of its own in the directory for temporary files, removed with the engine: threads
    cannot share SQLite's in-memory database without sharing a transaction.

    ``busy_timeout`` is the longest wait for a lock that another process holds, ``connect_timeout`` for the server;
    both in seconds.

    Raises:
        DatabaseUnusable: the URL is not one of these, the folder is missing or not writable, the file is not a
            database, or the server does not answer. The message names no password.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _create_sqlite_engine(parsed, busy_timeout)
    else:
        engine = _create_postgres_engine(parsed, busy_timeout, connect_timeout)
    try:
        with engine.execution_options(**READ_ACCESS).connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        raise DatabaseUnusable(_why_unusable(parsed, error)) from error
    return engine


def is_missing(url: str) -> bool:
    """Whether opening a database would make it: an SQLite file that is not there yet.

    Raises:
        DatabaseUnusable: the URL is no database's.
    """
    parsed = _parse(url)
    file = parsed.database
    return parsed.get_backend_name() == "sqlite" and not (file and Path(file).is_file())


class ThreadSafeDatabaseManager:
    """Gives every thread its own session for reading, and all of them one writer that commits in groups.

    Writes go through ``write_with_lock``, ``write_batched`` or ``transaction``; they are serialized behind a mutex
    over one connection, which is kept until ``close()``: a thread that writes needs none of its own. Where another
    process has the database locked, writers wait up to the engine's ``busy_timeout``. See docs/concepts/durability.md.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(**READ_ACCESS, **_SNAPSHOTS.get(engine.dialect.name, {}))
        self._lookups = Lookups(engine.execution_options(**READ_ACCESS))  # one statement each: no snapshot
        self._group_commit = GroupCommit(engine.execution_options(**WRITE_ACCESS), self._flush_open_session)
        self._open_session: Session | None = None  # of the unit that is running; protected by the group's mutex
        self._snapshot = local()  # .session: of the thread's block, see snapshot()
        self._sessions = scoped_session(sessionmaker(engine, class_=_ThreadSession, expire_on_commit=False))

    def get_session(self) -> Session:
        """This thread's own session, made on first use; ``cleanup_session`` gives its connection back.

        Meant for reading. It may write and commit too, then outside the mutex: on SQLite it takes the write lock
        with its first write, so do not call ``write_with_lock`` from the same thread before it is committed.
        """
        return self._sessions()

    def cleanup_session(self) -> None:
        """Ends this thread's session, rolling back what was not committed; its connection returns to the pool."""
        if self._sessions.registry.has():  # asked after every item, most of which need no session
            self._sessions.remove()

    def write_with_lock(self, write_func: Callable[[Session], T], *, is_bounded: bool = False) -> T:
        """Runs ``write_func(session)`` in a transaction and returns its result after the commit.

        Units of many threads share one commit. If one of a group fails all are run once more, so ``write_func``
        must be re-runnable: it reads and writes by its session alone, leaves the commit to us, and does nothing
        slow. Called within another unit or ``transaction()`` of the same thread it joins that one, under a savepoint.
        ``is_bounded`` says that its statements write some hundred rows at most: what SQLite sets aside to take them
        back then stays in memory, and needs no temporary file.

        Raises:
            DatabaseUnavailable: the database does not answer for now; trying again may help.
            StorageFailed: the database can no longer be written.
            BadInput: a value cannot be stored, see ``unusable_value``.
            Exception: whatever ``write_func`` raised; then nothing of it is kept.
        """
        result: T = self._group_commit.submit(self._call_each, write_func, is_bounded=is_bounded)
        return result

    def write_batched(self, batch: Batch[A, R], argument: A) -> R:
        """Like ``write_with_lock`` for bounded units of one shape: ``batch(connection, arguments)``, a result for each.

        The arguments of all threads that wait with the same ``batch`` come in one call, so that their rows can be
        written by one statement. Where the call fails each is run again on its own.
        """
        return self._group_commit.submit(batch, argument, is_bounded=True)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """A write transaction of its own under the mutex, committed when the block ends, rolled back if it raises.

        All other writers of the process wait for the block: prefer ``write_with_lock`` where threads compete.
        """
        with self._group_commit.transaction() as connection:
            session = _savepoint_session(connection)
            with self._opened(session):
                yield session

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only transaction that sees one state of the database and leaves nothing open.

        Raises:
            DatabaseUnavailable, StorageFailed: the database cannot be read.
            BadInput: it was asked for a value that it cannot hold, see ``unusable_value``.
        """
        if (outer := getattr(self._snapshot, "session", None)) is not None:
            yield outer
            return
        try:
            with Session(self._reader, expire_on_commit=False) as session:
                yield session
        except (exc.SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            failure = storage_failure(error) or unusable_value(error)
            if failure is None:
                raise
            raise failure from error

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Whatever this thread reads in the block by ``read`` is of one moment. Not for what streams rows.

        Raises:
            DatabaseUnavailable, StorageFailed, BadInput: as ``read``.
        """
        with self.read() as session:
            outer = getattr(self._snapshot, "session", None)
            self._snapshot.session = session
            try:
                yield
            finally:
                self._snapshot.session = outer

    def look_up(self, lookup: LookUp, key: str) -> str | None:
        """One look-up by one prepared statement: costs a tenth of ``read``.

        Raises:
            DatabaseUnavailable, StorageFailed: the database cannot be read.
        """
        return self._lookups.use(lookup, key)

    def close(self) -> None:
        """Ends the writer and this thread's session and closes all connections, those in use when given back."""
        self._sessions.remove()
        self._lookups.close()
        self._group_commit.close()
        event.listen(self.engine.pool, "checkin", _close_late)
        self.engine.dispose()

    def _call_each(self, connection: sa.Connection, functions: Sequence[Callable[[Session], Any]]) -> list[Any]:
        is_alone = connection.in_nested_transaction()
        session = _savepoint_session(connection) if is_alone else _GroupSession(connection, expire_on_commit=False)
        results = []
        with self._opened(session):
            for function in functions:
                results.append(function(session))
                if isinstance(session, _GroupSession) and session.is_rolled_back:
                    raise TransactionEnded
                session.flush()
                session.expunge_all()  # no unit meets objects that another one is about to return
        return results

    @contextlib.contextmanager
    def _opened(self, session: Session) -> Iterator[None]:
        outer = self._open_session
        with session:
            self._open_session = session
            try:
                yield
                session.commit()
            finally:
                self._open_session = outer

    def _flush_open_session(self) -> None:
        """A nested call sees what the unit around it has written so far."""
        if self._open_session is not None:
            self._open_session.flush()


def _close_late(_connection: object, record: ConnectionPoolEntry) -> None:
    record.invalidate()


class _GroupSession(Session):
    """A session of units that share one transaction: none of them may end it for the others."""

    is_rolled_back = False

    def commit(self) -> None:
        self.flush()

    def rollback(self) -> NoReturn:
        self.is_rolled_back = True
        raise TransactionEnded


def _savepoint_session(connection: sa.Connection) -> Session:
    """A session that owns a savepoint of the writer's transaction, so that it may roll back."""
    return Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")


class _ThreadSession(Session):
    """A session that reads without a lock and takes SQLite's write lock before its first write.

    Without this, a transaction that reads and then writes fails whenever another one wrote in between.
    """

    def take_write_lock(self) -> None:
        driver = self.connection().connection.driver_connection
        if isinstance(driver, sqlite3.Connection) and self.info.get("locked") is not self.get_transaction():
            driver.execute("COMMIT")
            driver.execute("BEGIN IMMEDIATE")
            self.info["locked"] = self.get_transaction()


@event.listens_for(_ThreadSession, "before_flush")
def _lock_before_flush(session: _ThreadSession, *_: object) -> None:
    session.take_write_lock()


@event.listens_for(_ThreadSession, "do_orm_execute")
def _lock_before_statement(state: ORMExecuteState) -> None:
    if isinstance(state.session, _ThreadSession) and (state.is_insert or state.is_update or state.is_delete):
        state.session.take_write_lock()


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url.replace("postgres://", "postgresql://", 1))
    except (exc.ArgumentError, ValueError) as error:
        raise DatabaseUnusable(f"The database URL cannot be read. {_URLS}") from error
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"}:
        raise DatabaseUnusable(f"The database {parsed.drivername!r} is not supported. {_URLS}")
    return parsed


_URLS = "Use sqlite:///path/to/file.db or postgresql://user:password@host:5432/name."


def _create_sqlite_engine(url: sa.URL, busy_timeout: float) -> sa.Engine:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise DatabaseUnusable(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed.")
    scratch = None
    if url.database in {None, "", ":memory:"} or url.query.get("mode") == "memory":
        scratch = tempfile.mkdtemp(prefix="thresher-")
        url = sa.URL.create("sqlite", database=str(Path(scratch) / "memory.db"))
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=_KEPT_CONNECTIONS,
        max_overflow=-1,
        connect_args={"timeout": busy_timeout, "isolation_level": None, "check_same_thread": False},
        json_serializer=_to_json,
        hide_parameters=True,  # they are the facts themselves, and errors end up in logs
    )
    event.listen(engine, "connect", _prepare_sqlite_connection)
    event.listen(engine, "begin", _begin_sqlite)
    if scratch is not None:
        weakref.finalize(engine, shutil.rmtree, scratch, ignore_errors=True)
    return engine


def _prepare_sqlite_connection(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
        "foreign_keys=ON",
        f"cache_size=-{_PAGE_CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Begins by hand: the driver itself would begin late, and commit when a leading savepoint is released."""
    access = connection.get_execution_options().get(_ACCESS)
    driver: Any = connection.connection.driver_connection
    is_reading = access == "read"
    if connection.info.get(_ACCESS, False) is not is_reading:
        driver.execute("PRAGMA query_only=1" if is_reading else "PRAGMA query_only=0")
        connection.info[_ACCESS] = is_reading
    in_memory = access == "write" and connection.info.get(IS_BOUNDED, False)
    if connection.info.get(_IN_MEMORY, False) is not in_memory:
        driver.execute("PRAGMA temp_store=MEMORY" if in_memory else "PRAGMA temp_store=DEFAULT")
        connection.info[_IN_MEMORY] = in_memory
    driver.execute("BEGIN IMMEDIATE" if access == "write" else "BEGIN")


def _create_postgres_engine(url: sa.URL, busy_timeout: float, connect_timeout: float) -> sa.Engine:
    return sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=_KEPT_CONNECTIONS,
        max_overflow=_POSTGRES_CONNECTIONS - _KEPT_CONNECTIONS,
        pool_timeout=busy_timeout,
        connect_args={
            "connect_timeout": max(2, round(connect_timeout)),
            "keepalives_idle": 30,
            "tcp_user_timeout": round(busy_timeout * 1000),
            "options": f"-c lock_timeout={round(busy_timeout * 1000)} -c timezone=UTC",
            "application_name": "thresher",
        },
        json_serializer=_to_json,
        hide_parameters=True,  # they are the facts themselves, and errors end up in logs
    )


def _why_unusable(url: sa.URL, error: exc.SQLAlchemyError | sqlite3.Error) -> str:
    if url.get_backend_name() == "sqlite":
        return _why_file_unusable(Path(url.database or ""), error)
    place = f"{url.host or 'the local socket'}:{url.port or 5432}"
    return (
        f"PostgreSQL at {place} does not let us in to the database {url.database or url.username!r} as "
        f"{url.username!r}: check that it runs, and DATABASE_URL."
    )


_RIGHTS = "cannot be written: check the rights of the file and of its folder"
_FILE_PROBLEMS = {
    sqlite3.SQLITE_NOTADB: "is no database file: name another file in DATABASE_URL",
    sqlite3.SQLITE_FULL: "cannot be written, the disk is full: make room, or name another file in DATABASE_URL",
    sqlite3.SQLITE_CORRUPT: "is damaged: put a backup in its place, or name another file in DATABASE_URL",
    sqlite3.SQLITE_CANTOPEN: _RIGHTS,
    sqlite3.SQLITE_READONLY: _RIGHTS,
    sqlite3.SQLITE_PERM: _RIGHTS,
}


def _why_file_unusable(path: Path, error: exc.SQLAlchemyError | sqlite3.Error) -> str:
    if not path.parent.is_dir():
        return f"The database {path} cannot be created: the folder {path.parent} does not exist."
    if path.is_dir():
        return f"The database {path} cannot be opened: it is a folder."
    driver_error = error.orig if isinstance(error, exc.DBAPIError) else error
    code = getattr(driver_error, "sqlite_errorcode", 0) & 0xFF
    if code in _FILE_PROBLEMS:
        return f"The database {path} {_FILE_PROBLEMS[code]}."
    return f"The database {path} cannot be opened: {driver_error}."


_encode_json = json.JSONEncoder(
    allow_nan=False,  # neither JSON nor PostgreSQL knows NaN
    separators=(",", ":"),
    default=lambda value: dict(value) if isinstance(value, Mapping) else list(value),
).encode


def _to_json(value: object) -> str:
    """What both databases take: NUL and unpaired surrogates, which models do write, as escapes; NaN is refused.

    The quick encoder knows neither surrogates nor all of our types, and would write NaN: the other has the last word.
    ``JsonText`` is written already.
    """
    if isinstance(value, JsonText):
        return str(value)
    try:
        text = to_json(value).decode()
    except (ValueError, TypeError):
        return _encode_json(value)
    return _encode_json(value) if "NaN" in text or "Infinity" in text else text
