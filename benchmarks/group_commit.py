"""Rows per second and latency of writes by many threads: a commit each behind a mutex, and group commit.

Both ways write the same rows into the same table on the same engine, in turns, in one run; trust the ratios.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from thresher.persistence.database import WRITE_ACCESS, ThreadSafeDatabaseManager, create_engine

THREADS = 16
ROWS_PER_THREAD = 150
ROUNDS = 5
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


def compare(url: str) -> dict[str, Any]:
    """Medians over the rounds, each way once per round, and the ratios to a commit each."""
    engine = create_engine(url)
    metadata.create_all(engine)
    db = ThreadSafeDatabaseManager(engine)
    ways = {"commit_each": commit_each(engine), "group_commit": group_commit(db), "batched": batched_commit(db)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    slowest: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, write in ways.items():
            seconds, latencies = run(write)
            rates[name].append(len(latencies) / seconds)
            slowest[name].append(statistics.quantiles(latencies, n=100)[98] * 1000)
    with engine.connect() as connection:
        stored = connection.scalar(sa.select(sa.func.count()).select_from(rows))
    db.close()
    assert stored == ROUNDS * len(ways) * THREADS * ROWS_PER_THREAD
    return _summary(rates, slowest)


def _summary(rates: dict[str, list[float]], slowest: dict[str, list[float]]) -> dict[str, Any]:
    medians = {
        name: {
            "rows_per_second": round(statistics.median(rates[name])),
            "p99_ms": round(statistics.median(slowest[name]), 2),
        }
        for name in rates
    }
    base = medians["commit_each"]
    for name in ("group_commit", "batched"):
        medians[name]["times_the_rows"] = round(medians[name]["rows_per_second"] / base["rows_per_second"], 2)
        medians[name]["times_the_p99"] = round(medians[name]["p99_ms"] / base["p99_ms"], 2)
    return medians


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


def measure() -> dict[str, Any]:
    """The comparison on SQLite, and on PostgreSQL where one answers; targets: 1.5 times the rows, half the p99."""
    with tempfile.TemporaryDirectory() as folder:
        results = {"threads": THREADS, "sqlite": compare(f"sqlite:///{Path(folder) / 'benchmark.db'}")}
    with _postgres() as url:
        if url is not None:
            results["postgresql"] = compare(url)
    return results


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
