"""Rows per second and latency of writes by many threads: a commit each behind a mutex, and group commit.

Both ways write the same rows into the same table on the same engine, in turns, in one run; trust the ratios.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from measurement import Row, Scale

from thresher.persistence.database import WRITE_ACCESS, ThreadSafeDatabaseManager, create_engine

THREADS = 16
ROWS_PER_THREAD = 150
POSTGRES = "postgresql://postgres@127.0.0.1:5432/"
DATABASE = "thresher_benchmark"

metadata = sa.MetaData()
rows = sa.Table(
    "rows",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("thread", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
INSERT = rows.insert().inline()
TEXT = "x" * 200

Write = Callable[[dict[str, Any]], None]


def commit_each(engine: sa.Engine) -> Write:
    """The way of the predecessor: a mutex, and a transaction for every row."""
    mutex = threading.Lock()
    writer = engine.execution_options(**WRITE_ACCESS)

    def write(row: dict[str, Any]) -> None:
        with mutex, writer.begin() as connection:
            connection.execute(INSERT, row)

    return write


def group_commit(db: ThreadSafeDatabaseManager) -> Write:
    """Units of any shape, each with a session: ``write_with_lock``."""

    def write(row: dict[str, Any]) -> None:
        db.write_with_lock(lambda session: session.connection().execute(INSERT, row) and None)

    return write


def batched_commit(db: ThreadSafeDatabaseManager) -> Write:
    """Units of one shape, merged into one statement: ``write_batched``, as the store finishes items."""

    def insert(connection: sa.Connection, batch: Sequence[dict[str, Any]]) -> list[None]:
        connection.execute(INSERT, list(batch))
        return [None] * len(batch)

    return lambda row: db.write_batched(insert, row)


def run(write: Write) -> tuple[float, list[float]]:
    """Wall time in seconds, and the latency of each row in seconds."""
    latencies: list[float] = []
    start = threading.Barrier(THREADS + 1)

    def work(thread: int) -> None:
        own = []
        start.wait()
        for number in range(ROWS_PER_THREAD):
            began = time.perf_counter()
            write({"thread": thread, "number": number, "text": TEXT})
            own.append(time.perf_counter() - began)
        latencies.extend(own)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, latencies


@dataclass(frozen=True, slots=True)
class Round:
    """One way, once: rows per second, and the latency in milliseconds that 99 % of the rows stay under."""

    rate: float
    p99: float


def compare(url: str, rounds: int) -> dict[str, list[Round]]:
    """Each way once per round, in turns."""
    engine = create_engine(url)
    metadata.create_all(engine)
    db = ThreadSafeDatabaseManager(engine)
    ways = {"commit each": commit_each(engine), "group commit": group_commit(db), "batched": batched_commit(db)}
    measured: dict[str, list[Round]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, write in ways.items():
            seconds, latencies = run(write)
            p99 = statistics.quantiles(latencies, n=100)[98] * 1000
            measured[name].append(Round(len(latencies) / seconds, p99))
    with engine.connect() as connection:
        stored = connection.scalar(sa.select(sa.func.count()).select_from(rows))
    db.close()
    assert stored == rounds * len(ways) * THREADS * ROWS_PER_THREAD
    return measured


def _rows_of(database: str, measured: dict[str, list[Round]]) -> list[Row]:
    """What each way does, and the ratios to a commit each within a round."""
    found = []
    for way, rounds in measured.items():
        what = f"{database}, {THREADS} threads, {way}"
        found.append(Row(f"{what}: rows per second", [one.rate for one in rounds], "1/s"))
        found.append(Row(f"{what}: p99", [one.p99 for one in rounds], "ms"))
    base = measured["commit each"]
    for way in ("group commit", "batched"):
        pairs = list(zip(measured[way], base, strict=True))
        what = f"{database}, {way} over commit each"
        found.append(
            Row(f"{what}: rows per second", [ours.rate / each.rate for ours, each in pairs], "x", at_least=1.5)
        )
        found.append(Row(f"{what}: p99", [ours.p99 / each.p99 for ours, each in pairs], "x", at_most=0.5))
    return found


@contextmanager
def _postgres() -> Iterator[str | None]:
    """A database of its own on the server that answers on the loopback; None where none does."""
    try:
        server = psycopg.connect(POSTGRES + "postgres", autocommit=True, connect_timeout=2)
    except psycopg.Error:
        yield None
        return
    with server:
        server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {DATABASE}")
        try:
            yield POSTGRES + DATABASE
        finally:
            server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def measure(scale: Scale) -> list[Row]:
    """The comparison on SQLite, and on PostgreSQL where one answers on the loopback."""
    rounds = scale.pick(2 * scale.rounds - 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows_of("SQLite", compare(f"sqlite:///{Path(folder) / 'benchmark.db'}", rounds))
    with _postgres() as url:
        if url is not None:
            rows += _rows_of("PostgreSQL", compare(url, rounds))
    return rows
