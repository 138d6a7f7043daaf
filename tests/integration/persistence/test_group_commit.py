"""Group commit: every caller its own result or exception, once; nothing waits for ever, whatever happens."""

from __future__ import annotations

import _thread
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from thresher.core.errors import BadInput, DatabaseUnavailable, StorageFailed
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


@pytest.fixture
def db(database_url: str) -> Iterator[ThreadSafeDatabaseManager]:
    engine = create_engine(database_url, busy_timeout=5)
    Base.metadata.create_all(engine)
    manager = ThreadSafeDatabaseManager(engine)
    yield manager
    manager.close()
    assert engine.pool.checkedout() == 0, "a connection was not given back"


def add(text: str) -> Callable[[Session], str]:
    def unit(session: Session) -> str:
        session.add(Note(text=text))
        return text

    return unit


def stored(db: ThreadSafeDatabaseManager) -> list[str]:
    with db.read() as session:
        return list(session.scalars(sa.select(Note.text).order_by(Note.text)))


class Together:
    """Hands in units while the mutex is held, so that they become one group."""

    def __init__(self, db: ThreadSafeDatabaseManager) -> None:
        self.db = db

    def run(self, units: Sequence[Callable[[Session], Any]]) -> list[Any]:
        """The result or the exception of each."""
        with ThreadPoolExecutor(len(units)) as pool:
            with self.db.transaction():
                futures = [pool.submit(self.db.write_with_lock, unit) for unit in units]
                while len(self.db._group_commit._waiting) < len(units):
                    threading.Event().wait(0.001)
            return [future.exception() or future.result() for future in futures]


@pytest.fixture
def together(db: ThreadSafeDatabaseManager) -> Together:
    return Together(db)


def test_a_write_returns_its_result_after_the_commit(db: ThreadSafeDatabaseManager) -> None:
    assert db.write_with_lock(add("a")) == "a"
    assert stored(db) == ["a"]


def test_a_failed_write_raises_its_own_exception_and_leaves_nothing(db: ThreadSafeDatabaseManager) -> None:
    def unit(session: Session) -> None:
        session.add(Note(text="a"))
        session.flush()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        db.write_with_lock(unit)
    assert stored(db) == []
    assert db.write_with_lock(add("b")) == "b"


def test_units_that_wait_together_are_committed_once(db: ThreadSafeDatabaseManager, together: Together) -> None:
    commits = []
    sa.event.listen(db.engine, "commit", commits.append)
    assert together.run([add(f"{n:02}") for n in range(8)]) == [f"{n:02}" for n in range(8)]
    assert len(commits) == 2, "that of the block they waited for, and theirs"
    assert len(stored(db)) == 8


def test_one_bad_unit_among_many_fails_alone(db: ThreadSafeDatabaseManager, together: Together) -> None:
    db.write_with_lock(add("03"))

    def bad(_: Session) -> None:
        raise LookupError("mine")

    outcomes = together.run([bad, *(add(f"{n:02}") for n in range(8))])
    assert repr(outcomes[0]) == "LookupError('mine')"
    assert isinstance(outcomes[4], sa.exc.IntegrityError)
    assert [outcomes[n] for n in (1, 2, 3, 5, 6, 7, 8)] == ["00", "01", "02", "04", "05", "06", "07"]
    assert stored(db) == [f"{n:02}" for n in range(8)]


def test_what_no_database_holds_is_bad_input_of_its_own_writer(
    db: ThreadSafeDatabaseManager, together: Together
) -> None:
    one, bad, other = together.run([add("a"), add("half a pair \ud800"), add("b")])
    assert (one, other, stored(db)) == ("a", "b", ["a", "b"])
    assert isinstance(bad, BadInput)
    with pytest.raises(BadInput, match="no database holds"):
        db.write_with_lock(add("\udfff"))
    with pytest.raises(BadInput, match="no database holds"), db.transaction() as session:
        add("\ud800")(session)
    assert stored(db) == ["a", "b"]
    assert db.write_with_lock(add("c")) == "c"


def test_a_unit_that_rolls_back_undoes_only_itself(db: ThreadSafeDatabaseManager, together: Together) -> None:
    def shy(session: Session) -> str:
        session.add(Note(text="shy"))
        session.rollback()
        return "rolled back"

    assert together.run([add("a"), shy, add("b")]) == ["a", "rolled back", "b"]
    assert together.run([shy]) == ["rolled back"]
    assert stored(db) == ["a", "b"]


def test_a_unit_that_ends_its_transaction_and_goes_on_is_written_once(
    db: ThreadSafeDatabaseManager, together: Together
) -> None:
    def busy(session: Session) -> str:
        session.add(Note(text="undone"))
        session.rollback()
        session.add(Note(text="busy"))
        session.commit()
        session.add(Note(text="later"))
        return "busy"

    assert together.run([add("a"), busy, add("b")]) == ["a", "busy", "b"]
    assert stored(db) == ["a", "b", "busy", "later"]


def test_a_unit_that_commits_does_not_commit_for_the_others(db: ThreadSafeDatabaseManager, together: Together) -> None:
    def eager(session: Session) -> None:
        session.add(Note(text="eager"))
        session.commit()
        raise LookupError

    assert isinstance(together.run([eager, add("a")])[0], LookupError)
    assert stored(db) == ["a"]


def test_objects_returned_by_a_unit_can_be_read_after_the_commit(db: ThreadSafeDatabaseManager) -> None:
    def unit(session: Session) -> Note:
        note = Note(text="a")
        session.add(note)
        return note

    note = db.write_with_lock(unit)
    assert (note.text, note.id) == ("a", 1)
    other = db.write_with_lock(lambda session: session.get(Note, 1))
    assert other is not note, "no object is shared by two callers"


def test_batched_units_come_in_one_call_and_again_one_by_one_where_it_fails(db: ThreadSafeDatabaseManager) -> None:
    calls: list[list[str]] = []

    def insert(connection: sa.Connection, texts: Sequence[str]) -> list[str]:
        calls.append(list(texts))
        connection.execute(sa.insert(Note), [{"text": text} for text in texts])
        return [text.upper() for text in texts]

    with ThreadPoolExecutor(3) as pool:
        with db.transaction():
            futures = [pool.submit(db.write_batched, insert, text) for text in ("a", "b", "a")]
            while len(db._group_commit._waiting) < 3:
                threading.Event().wait(0.001)
        outcomes = sorted(type(future.exception()).__name__ for future in futures)
    assert outcomes == ["IntegrityError", "NoneType", "NoneType"]
    assert sorted(calls[0]) == ["a", "a", "b"]
    assert [len(call) for call in calls[1:]] == [1, 1, 1]
    assert stored(db) == ["a", "b"]


def test_sixteen_threads_lose_and_repeat_nothing(db: ThreadSafeDatabaseManager) -> None:
    def work(thread: int) -> list[str]:
        return [db.write_with_lock(add(f"{thread:02}-{n:02}")) for n in range(25)]

    with ThreadPoolExecutor(16) as pool:
        results = [text for texts in pool.map(work, range(16)) for text in texts]
    assert stored(db) == sorted(results) == [f"{thread:02}-{n:02}" for thread in range(16) for n in range(25)]
    assert db.engine.pool.checkedout() == 1, "the writer's; none of the threads"


def test_a_write_within_a_write_joins_it(db: ThreadSafeDatabaseManager) -> None:
    def undone() -> None:
        with db.transaction() as nested:
            nested.add(Note(text="undone"))
            nested.flush()
            raise LookupError

    def outer(session: Session) -> str | None:
        session.add(Note(text="outer"))
        seen = db.write_with_lock(lambda own: own.scalar(sa.select(Note.text)))
        with pytest.raises(LookupError):
            undone()
        return seen

    assert db.write_with_lock(outer) == "outer", "the inner one sees what the outer has written"
    assert stored(db) == ["outer"]


def test_a_write_within_a_failing_write_is_undone_with_it(db: ThreadSafeDatabaseManager) -> None:
    def outer(session: Session) -> None:
        session.add(Note(text="a"))
        db.write_with_lock(add("b"))
        raise LookupError

    with pytest.raises(LookupError):
        db.write_with_lock(outer)
    assert stored(db) == []


def test_a_transaction_commits_at_its_edge(db: ThreadSafeDatabaseManager) -> None:
    with db.transaction() as session:
        session.add(Note(text="a"))
        session.flush()
        assert stored(db) == [], "nobody sees half of it"
    assert stored(db) == ["a"]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C is heard here, also where the tests were started deaf to it (by ``&`` in a script)."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


def interrupting(outcome: str) -> Callable[[Session], str]:
    """A unit that is interrupted as if by Ctrl-C the first time it runs."""
    times = iter([True])

    def unit(session: Session) -> str:
        session.add(Note(text=outcome))
        session.flush()
        if next(times, False):
            raise KeyboardInterrupt
        return outcome

    return unit


def test_an_interrupt_in_the_leader_costs_the_others_nothing(db: ThreadSafeDatabaseManager) -> None:
    outcomes: dict[str, object] = {}

    def call(name: str, unit: Callable[[Session], str]) -> None:
        try:
            outcomes[name] = db.write_with_lock(unit)
        except KeyboardInterrupt:
            outcomes[name] = "interrupted"

    leader = threading.Thread(target=call, args=("leader", interrupting("leader")))
    others = [threading.Thread(target=call, args=(f"{n}", add(f"{n}"))) for n in range(5)]
    with db.transaction():
        for thread in (leader, *others):
            thread.start()
            while not any(unit.argument for unit in list(db._group_commit._waiting)):
                threading.Event().wait(0.001)
        while len(db._group_commit._waiting) < 6:
            threading.Event().wait(0.001)
    for thread in (leader, *others):
        thread.join(timeout=20)
        assert not thread.is_alive(), "a thread waits for ever"
    written = [name for name in outcomes if outcomes[name] == name]
    assert stored(db) == sorted(written)
    assert set(written) >= {"0", "1", "2", "3", "4"} - {n for n, o in outcomes.items() if o == "interrupted"}
    assert list(outcomes.values()).count("interrupted") == 1
    assert db.write_with_lock(add("later")) == "later"


@pytest.mark.parametrize("moment", ["commit", "begin"])
@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_in_the_main_thread_commits_no_unit_twice(db: ThreadSafeDatabaseManager, moment: str) -> None:
    """The signal arrives while the driver begins or commits; Python raises as soon as that has returned."""
    times = iter([True])

    def interrupt(*_: object) -> None:
        if threading.current_thread() is threading.main_thread() and next(times, False):
            _thread.interrupt_main()

    sa.event.listen(db.engine, moment, interrupt)
    runs = []

    def unit(session: Session) -> str:
        runs.append(1)
        session.add(Note(text="main"))
        return "main"

    with pytest.raises(KeyboardInterrupt):
        db.write_with_lock(unit)
    assert len(stored(db)) <= 1
    assert db.write_with_lock(add("later")) == "later"
    assert db.engine.pool.checkedout() == 1


@pytest.mark.usefixtures("_interruptible")
def test_a_waiting_thread_that_is_interrupted_leaves_no_trace(db: ThreadSafeDatabaseManager) -> None:
    held = threading.Event()
    release = threading.Event()

    def slow(_: Session) -> None:
        held.set()
        release.wait(20)

    def interrupt_the_waiting() -> None:
        while not db._group_commit._waiting:
            threading.Event().wait(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(db.write_with_lock, slow)
        held.wait(20)
        pool.submit(interrupt_the_waiting)
        with pytest.raises(KeyboardInterrupt):
            db.write_with_lock(add("main"))
        release.set()
        first.result(20)
    assert db.write_with_lock(add("later")) == "later"
    assert stored(db) == ["later"]


def test_a_commit_that_fails_reaches_every_caller(db: ThreadSafeDatabaseManager, together: Together) -> None:
    times = iter([False, True])

    def fail(_: sa.Connection) -> None:
        if next(times, False):
            raise StorageFailed("The database cannot be written: the disk is full.")

    sa.event.listen(db.engine, "commit", fail)
    outcomes = together.run([add(f"{n}") for n in range(4)])
    assert [type(outcome) for outcome in outcomes] == [StorageFailed] * 4
    assert len({id(outcome) for outcome in outcomes}) == 4, "each raises an exception of its own"
    assert stored(db) == []
    assert db.write_with_lock(add("later")) == "later"


def test_sqlite_that_is_full_fails_for_good(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    db = ThreadSafeDatabaseManager(engine)
    with db.transaction() as session:
        session.execute(sa.text("PRAGMA max_page_count = 5"))
    with pytest.raises(StorageFailed, match="the disk is full"):
        db.write_with_lock(add("x" * 100_000))
    assert stored(db) == []
    db.close()


def test_sqlite_that_another_process_has_locked_is_unavailable_for_now(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url, busy_timeout=0.05)
    Base.metadata.create_all(engine)
    db = ThreadSafeDatabaseManager(engine)
    with engine.connect() as other:
        other.exec_driver_sql("INSERT INTO notes (text) VALUES ('other')")
        with pytest.raises(DatabaseUnavailable, match="kept it locked"):
            db.write_with_lock(add("mine"))
        other.rollback()
    assert db.write_with_lock(add("mine")) == "mine"
    db.close()


def cut_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.postgres
def test_a_connection_lost_between_writes_is_opened_anew_unnoticed(postgres_url: str) -> None:
    db = ThreadSafeDatabaseManager(create_engine(postgres_url))
    Base.metadata.create_all(db.engine)
    db.write_with_lock(add("before"))
    cut_connections(postgres_url)
    assert db.write_with_lock(add("after")) == "after"
    assert stored(db) == ["after", "before"]
    db.close()


@pytest.mark.postgres
def test_a_connection_lost_while_writing_is_opened_anew_and_the_unit_run_again(postgres_url: str) -> None:
    db = ThreadSafeDatabaseManager(create_engine(postgres_url))
    Base.metadata.create_all(db.engine)
    runs = []

    def unit(session: Session) -> int:
        session.add(Note(text="a"))
        session.flush()
        runs.append(1)
        if len(runs) == 1:
            cut_connections(postgres_url)
        session.execute(sa.text("SELECT 1"))
        return len(runs)

    assert db.write_with_lock(unit) == 2
    assert stored(db) == ["a"]
    db.close()


@pytest.mark.postgres
def test_a_server_that_stays_away_is_unavailable_and_used_again_when_it_is_back(postgres_url: str) -> None:
    db = ThreadSafeDatabaseManager(create_engine(postgres_url))
    Base.metadata.create_all(db.engine)

    def unit(session: Session) -> None:
        session.execute(sa.text("SELECT 1"))
        cut_connections(postgres_url)
        session.execute(sa.text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable, match=r"connection was lost|stopping or starting"):
        db.write_with_lock(unit)
    assert db.write_with_lock(add("a")) == "a"
    db.close()


KILLED = """
import os, sys, threading
import sqlalchemy as sa
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine

db = ThreadSafeDatabaseManager(create_engine(sys.argv[1]))
moment = sys.argv[2]
seen = threading.Semaphore(0)

def unit(number):
    def write(session):
        session.execute(sa.text(f"INSERT INTO notes (id, text) VALUES ({number}, '{number}')"))
        if number == 5 and moment == "unit":
            os._exit(9)
    return write

if moment == "commit":
    sa.event.listen(db.engine, "commit", lambda _: os._exit(9))
if moment == "committed":
    sa.event.listen(db.engine, "checkin", lambda *_: os._exit(9))
threads = [threading.Thread(target=db.write_with_lock, args=(unit(n),), daemon=True) for n in range(1, 9)]
mutex = db._group_commit._mutex
with mutex:
    for thread in threads:
        thread.start()
    while len(db._group_commit._waiting) < 8:
        threading.Event().wait(0.001)
db._group_commit._pass_on()
for thread in threads:
    thread.join()
os._exit(9)
"""


@pytest.mark.parametrize(("moment", "rows"), [("unit", 0), ("commit", 0), ("committed", 8)])
def test_a_killed_process_leaves_all_of_a_group_or_nothing(
    db: ThreadSafeDatabaseManager, database_url: str, moment: str, rows: int
) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, database_url, moment], timeout=60, check=False)
    assert run.returncode == 9
    assert len(stored(db)) == rows


def test_every_thread_has_a_session_of_its_own_that_cannot_touch_anothers_rows(db: ThreadSafeDatabaseManager) -> None:
    mine = db.get_session()
    assert db.get_session() is mine
    mine.add(Note(text="mine"))
    mine.flush()

    def other() -> int:
        session = db.get_session()
        assert session is not mine
        count = session.scalar(sa.select(sa.func.count()).select_from(Note))
        db.cleanup_session()
        assert count is not None
        return count

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(other).result(20) == 0
    mine.commit()
    db.cleanup_session()
    assert stored(db) == ["mine"]
    assert db.engine.pool.checkedout() == 0


def test_a_threads_session_may_read_and_then_write_beside_other_writers(db: ThreadSafeDatabaseManager) -> None:
    session = db.get_session()
    assert session.scalar(sa.select(sa.func.count()).select_from(Note)) == 0
    db.write_with_lock(add("other"))
    session.add(Note(text="mine"))
    session.commit()
    session.execute(sa.select(Note)).all()
    db.write_with_lock(add("third"))
    session.execute(sa.update(Note).where(Note.text == "third").values(text="changed"))
    session.commit()
    db.cleanup_session()
    assert stored(db) == ["changed", "mine", "other"]


def test_connections_return_to_the_pool_when_threads_end_without_cleaning_up(db: ThreadSafeDatabaseManager) -> None:
    def work() -> None:
        db.get_session().execute(sa.select(Note)).all()
        with db.read() as session:
            session.execute(sa.select(Note)).all()

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del threads, thread
    gc.collect()
    assert db.engine.pool.checkedout() == 0


def test_reading_cannot_write(db: ThreadSafeDatabaseManager) -> None:
    with pytest.raises((StorageFailed, sa.exc.DBAPIError), match="read-only"), db.read() as session:
        session.execute(sa.insert(Note).values(text="a"))
    assert stored(db) == []
    assert db.write_with_lock(add("a")) == "a"


def test_readers_see_one_state_while_others_write(db: ThreadSafeDatabaseManager) -> None:
    count = sa.select(sa.func.count()).select_from(Note)
    with db.read() as session:
        before = session.scalar(count)
        db.write_with_lock(add("a"))
        if db.engine.dialect.name == "sqlite":
            assert session.scalar(count) == before
    assert stored(db) == ["a"]
