"""Opening a database: what it is set to, and one clear sentence where it cannot be used."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session

from thresher.core.errors import DatabaseUnusable, StorageFailed
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.failures import storage_failure
from thresher.persistence.prepared import PreparedStatement
from thresher.persistence.tables import Base, ForeignText, UtcDateTime


def not_a_database(folder: Path) -> str:
    (folder / "notes.txt").write_text("this is no database at all\n" * 100)
    return f"sqlite:///{folder / 'notes.txt'}"


@pytest.mark.parametrize(
    ("url_in", "sentence"),
    [
        (lambda _: "nonsense", r"cannot be read. Use sqlite:///.* or postgresql://"),
        (lambda _: "", r"cannot be read. Use sqlite:///"),
        (lambda _: "postgresql://u:s3cret@host:port/x", r"cannot be read. Use sqlite:///"),
        (lambda _: "mysql://root:s3cret@localhost/x", r"'mysql' is not supported. Use sqlite:///"),
        (lambda _: "postgresql+psycopg2://u:s3cret@localhost/x", r"'postgresql\+psycopg2' is not supported"),
        (lambda folder: f"sqlite:///{folder}/missing/a.db", r"cannot be created: the folder .*missing does not exist"),
        (lambda folder: f"sqlite:///{folder}", r"cannot be opened: it is a folder"),
        (lambda _: "sqlite:////proc/thresher.db", r"/proc/thresher.db cannot be written: check the rights"),
        (not_a_database, r"notes.txt is no database file: name another file in DATABASE_URL"),
        (lambda _: "postgresql://me:s3cret@127.0.0.1:9/x", r"PostgreSQL at 127.0.0.1:9 .*'x' as 'me': check"),
    ],
)
def test_an_unusable_database_is_refused_in_one_sentence_without_its_password(
    tmp_path: Path, url_in: Callable[[Path], str], sentence: str
) -> None:
    with pytest.raises(DatabaseUnusable, match=sentence) as refusal:
        create_engine(url_in(tmp_path), connect_timeout=2)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.postgres
def test_an_unknown_database_of_a_server_is_refused(postgres_url: str) -> None:
    with pytest.raises(DatabaseUnusable, match="'missing_database'"):
        create_engine(sa.make_url(postgres_url).set(database="missing_database").render_as_string(hide_password=False))


def test_every_sqlite_connection_is_set_up_for_many_threads(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    with engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "cache_size")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 1,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "cache_size": -512,
    }
    engine.dispose()


def many_rows(session: Session) -> Sequence[str]:
    """Changes more of them at once than SQLite keeps in memory by itself; returns its temporary files."""
    connection = session.connection()
    connection.exec_driver_sql("UPDATE some SET text = text || '.' WHERE id IN (SELECT id FROM some)")
    names = [str(handle.readlink()) for handle in Path("/proc/self/fd").iterdir() if handle.is_symlink()]
    return [name for name in names if "etilqs" in name]


def test_bounded_writes_need_no_temporary_file_and_others_no_memory(sqlite_url: str) -> None:
    db = ThreadSafeDatabaseManager(create_engine(sqlite_url))
    rows = [(f"name-{number}", "x" * 500) for number in range(2_000)]
    with db.transaction() as session:
        connection = session.connection()
        connection.exec_driver_sql(
            "CREATE TABLE some (id INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT CHECK (text <> ''))"
        )
        connection.exec_driver_sql("INSERT INTO some (name, text) VALUES (?, ?)", rows)
    try:
        assert db.write_with_lock(many_rows, is_bounded=True) == []
        assert db.write_batched(lambda at, some: [many_rows(Session(at)) for _ in some], None) == []
        assert len(db.write_with_lock(many_rows)) == 1
        with db.transaction() as session:
            assert len(many_rows(session)) == 1
        assert db.write_with_lock(many_rows, is_bounded=True) == []
    finally:
        db.close()


def test_reading_does_not_take_the_write_lock(sqlite_url: str) -> None:
    first, second = (ThreadSafeDatabaseManager(create_engine(sqlite_url, busy_timeout=0.05)) for _ in range(2))
    Base.metadata.create_all(first.engine)
    with first.read() as session:
        session.execute(sa.text("SELECT * FROM runs")).all()
        with second.transaction() as writer:
            writer.execute(sa.text("DELETE FROM runs"))
    first.close()
    second.close()


def test_a_database_in_memory_is_one_for_all_threads_and_leaves_nothing_behind() -> None:
    code = """
import sqlalchemy as sa
from concurrent.futures import ThreadPoolExecutor
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
db = ThreadSafeDatabaseManager(create_engine("sqlite://"))
db.write_with_lock(lambda session: session.execute(sa.text("CREATE TABLE t (n INTEGER)")) and None)
def work(number):
    db.write_with_lock(lambda session: session.execute(sa.text(f"INSERT INTO t VALUES ({number})")) and None)
    with db.read() as session:
        return session.scalar(sa.text("SELECT count(*) FROM t"))
with ThreadPoolExecutor(8) as pool:
    print(max(pool.map(work, range(50))))
print(db.engine.url.database)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert answer[0] == "50"
    assert not Path(answer[1]).parent.exists()


def test_what_is_read_together_is_of_one_moment(database_url: str) -> None:
    """In one transaction, and in several reads of a snapshot; what is read after it is new."""
    db = ThreadSafeDatabaseManager(create_engine(database_url))
    with db.transaction() as session:
        session.execute(sa.text("CREATE TABLE counters (n INTEGER)"))
        session.execute(sa.text("INSERT INTO counters VALUES (1)"))

    def seen() -> int:
        with db.read() as session:
            return int(session.scalar(sa.text("SELECT n FROM counters")) or 0)

    def add_one() -> None:
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(
                db.write_with_lock, lambda session: session.execute(sa.text("UPDATE counters SET n = n + 1")) and None
            ).result(30)

    with db.read() as session:
        first = session.scalar(sa.text("SELECT n FROM counters"))
        add_one()
        assert session.scalar(sa.text("SELECT n FROM counters")) == first == 1
    with db.snapshot():
        assert seen() == 2
        add_one()
        with db.snapshot():
            assert seen() == 2
        assert seen() == 2
        with ThreadPoolExecutor(1) as elsewhere:
            assert elsewhere.submit(seen).result(30) == 3, "of this thread only"
    assert seen() == 3
    db.close()


def test_a_connection_given_back_after_the_end_is_closed(database_url: str) -> None:
    db = ThreadSafeDatabaseManager(create_engine(database_url))
    with db.read() as late:
        driver: Any = late.connection().connection.driver_connection
        db.close()
        assert late.scalar(sa.text("SELECT 1")) == 1
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        driver.execute("SELECT 1")


def test_instants_keep_their_moment_and_come_back_in_utc(database_url: str) -> None:
    table = sa.Table("instants", sa.MetaData(), sa.Column("at", UtcDateTime))
    engine = create_engine(database_url)
    table.create(engine)
    moments = [
        datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(1969, 12, 31, 23, tzinfo=timezone(-timedelta(hours=3, minutes=30))),
    ]
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"at": moment} for moment in moments])
    with engine.connect() as connection:
        back = connection.scalars(sa.select(table.c.at).order_by(table.c.at)).all()
        after = connection.scalar(sa.select(sa.func.count()).where(table.c.at > moments[1]))
    engine.dispose()
    assert list(back) == sorted(moments)
    assert all(moment.tzinfo is UTC for moment in back)
    assert after == 1


def test_an_instant_without_a_zone_is_refused(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    with pytest.raises(ValueError, match="has no time zone"):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), engine.dialect)  # noqa: DTZ001
    engine.dispose()


@pytest.mark.parametrize(
    ("text", "stored"),
    [("plain", "plain"), ("\0", "\ufffd"), ("\ud83d!", "\ufffd!"), ("\ud83d\ude00", "\U0001f600"), ("é", "é")],
)
def test_foreign_text_comes_back_readable(database_url: str, text: str, stored: str) -> None:
    table = sa.Table("texts", sa.MetaData(), sa.Column("text", ForeignText))
    engine = create_engine(database_url)
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(table), {"text": text})
        assert connection.scalar(sa.select(table.c.text)) == stored
    engine.dispose()


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "é", "value": "a\0b", "grounded": True}],
        {"lone": "\ud83d", "NaN": "Infinity"},
        [10**30, 0.1, 1e-7, None, ("tuple",)],
        MappingProxyType({"a": MappingProxyType({"b": 1})}),
    ],
)
def test_json_comes_back_as_it_was(database_url: str, value: Any) -> None:
    table = sa.Table("documents", sa.MetaData(), sa.Column("document", sa.JSON(none_as_null=True)))
    engine = create_engine(database_url)
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(table), {"document": value})
        back = connection.scalar(sa.select(table.c.document))
    engine.dispose()
    assert back == json.loads(json.dumps(value, default=dict))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_does_not_know_is_not_stored(database_url: str, number: float) -> None:
    table = sa.Table("documents", sa.MetaData(), sa.Column("document", sa.JSON()))
    engine = create_engine(database_url)
    table.create(engine)
    with engine.begin() as connection, pytest.raises((exc.StatementError, ValueError), match="not JSON compliant"):
        connection.execute(sa.insert(table), {"document": [number]})
    engine.dispose()


def test_an_error_does_not_say_what_was_to_be_stored(database_url: str) -> None:
    table = sa.Table("names", sa.MetaData(), sa.Column("name", sa.Text, primary_key=True), sa.Column("at", sa.Text))
    engine = create_engine(database_url)
    table.create(engine)
    prepared = PreparedStatement(table.insert().inline(), engine.dialect, ["name", "at"])
    row = {"name": "Erika Mustermann", "at": "home"}
    with engine.begin() as connection:
        prepared.execute(connection, [row])
    for execute in (prepared.execute, lambda connection, rows: connection.execute(table.insert(), rows)):
        with pytest.raises(exc.IntegrityError) as raised, engine.begin() as connection:
            execute(connection, [row])
        assert "Erika" not in str(raised.value).partition("DETAIL")[0]
    engine.dispose()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR | 3 << 8, sqlite3.SQLITE_CORRUPT])
def test_errors_of_the_disk_are_fatal_by_their_code(code: int) -> None:
    error = sqlite3.OperationalError("whatever it says")
    error.sqlite_errorcode = code
    assert isinstance(storage_failure(error), StorageFailed)
    assert storage_failure(sqlite3.IntegrityError("UNIQUE constraint failed")) is None


def test_many_readers_and_writers_leave_no_connection_behind(database_url: str) -> None:
    db = ThreadSafeDatabaseManager(create_engine(database_url))
    Base.metadata.create_all(db.engine)

    def work(_: int) -> None:
        with db.read() as session:
            session.execute(sa.text("SELECT count(*) FROM runs")).all()
        db.write_with_lock(lambda session: session.execute(sa.text("DELETE FROM runs")) and None)

    for _ in range(2):
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(work, range(64)))
        assert db.engine.pool.checkedout() == 1, "the writer's"
    db.close()
    assert db.engine.pool.checkedout() == 0
