"""A second run over the same document: requests, and nodes per second over the rows per second of grouped inserts."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import group_commit
import sqlalchemy as sa
from documents import PATH, write_orders
from measurement import Folder, Row, Scale, folder

from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.tables import Base
from thresher.testing.model_server import running_model_server

WORKERS = 10
TARGET = 1 / 3
TIMES = 3  # in each round
TABLES = {
    "items": "SELECT * FROM items ORDER BY id",
    "attempts": "SELECT * FROM attempts ORDER BY item_id",
    "node_facts": "SELECT * FROM node_facts ORDER BY item_id",
}


def measure(scale: Scale) -> list[Row]:
    """All within each round, on SQLite files of the same folder; every run by the real command.

    The nodes' own rows are what the first run stored (item, attempt, fact), a unit for each node, by as many threads as
    workers, in group commits (``write_with_lock``); merged, as the store finishes items, the units of a group become
    one statement for each table, which is twice as fast. A short row is one of one table, by one of 16 threads. A node
    of a run is planned, claimed, masked, looked up, validated, grounded, and finished.
    """
    nodes = scale.pick(2_000, 250)
    requests, rates, first, inserts, own, merged = [], [], [], [], [], []
    with running_model_server() as server:
        for _ in range(scale.rounds):
            with folder(OPENAI_BASE_URL=server.base_url) as place:
                document = place.path / "orders.xml"
                write_orders(document, nodes)
                first.append(_nodes_per_second(place, document))
                server.reset()
                inserts.append(_inserts_per_second(place.path / "inserts.db"))
                own.append(_own_rows(place, _in_groups))
                merged.append(_own_rows(place, _merged))
                rates.append(_second_run(place, document))
                requests.append(float(server.stats().get("requests", 0)))
    what = f"{nodes} nodes, {WORKERS} at once"
    return [
        Row(f"{what}, second run: requests", requests, at_most=0),
        Row(f"{what}, second run: nodes per second", rates, "1/s"),
        Row(f"{what}, first run at zero latency: nodes per second", first, "1/s"),
        Row("grouped inserts of the nodes' own rows: nodes per second", own, "1/s"),
        Row("the same, the rows of a group merged into one statement", merged, "1/s"),
        Row("grouped and merged inserts of one short row: rows per second", inserts, "1/s"),
        Row("second run over grouped inserts of the nodes' own rows", _ratios(rates, own), "x", at_least=TARGET),
        Row("second run over merged inserts of the nodes' own rows", _ratios(rates, merged), "x"),
        Row("second run over merged inserts of short rows", _ratios(rates, inserts), "x"),
    ]


def _ratios(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]


def _nodes_per_second(place: Folder, document: Path) -> float:
    options = ("--path", PATH, "--workers", str(WORKERS), "--json", "--quiet")
    result = place.thresher("discover", document, *options).json
    assert result["requests"] + result["cache_hits"] == result["nodes_total"]
    rate: float = result["subtrees_processed"] / result["elapsed_seconds"]
    return rate


def _inserts_per_second(file: Path) -> float:
    engine = create_engine(f"sqlite:///{file}")
    group_commit.metadata.create_all(engine)
    db = ThreadSafeDatabaseManager(engine)
    seconds, latencies = group_commit.run(group_commit.batched_commit(db))
    db.close()
    return len(latencies) / seconds


def _in_groups(db: ThreadSafeDatabaseManager, node: Any) -> None:  # noqa: ANN401 # rows as they come
    db.write_with_lock(lambda session: _insert_nodes(session.connection(), [node]))


def _merged(db: ThreadSafeDatabaseManager, node: Any) -> None:  # noqa: ANN401 # rows as they come
    db.write_batched(_insert_nodes, node)


def _second_run(place: Folder, document: Path) -> float:
    """The median of three, one after the other over the same database."""
    return statistics.median(_nodes_per_second(place, document) for _ in range(TIMES))


def _own_rows(place: Folder, insert: Callable[[ThreadSafeDatabaseManager, Any], None]) -> float:
    """The median of three; each takes a third of a second, which is little where other processes run."""
    files = [place.path / f"{insert.__name__}-{number}.db" for number in range(TIMES)]
    return statistics.median(_own_rows_per_second(place.path / "thresher.db", file, insert) for file in files)


def _own_rows_per_second(source: Path, file: Path, insert: Callable[[ThreadSafeDatabaseManager, Any], None]) -> float:
    """Nodes per second whose rows are inserted as they are, with nothing else done."""
    runs, nodes = _stored(source)
    engine = create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    db = ThreadSafeDatabaseManager(engine)
    db.write_batched(_insert_run, runs[0])
    with ThreadPoolExecutor(WORKERS) as pool:
        began = time.perf_counter()
        list(pool.map(lambda node: insert(db, node), nodes))
        seconds = time.perf_counter() - began
    db.close()
    return len(nodes) / seconds


def _stored(source: Path) -> tuple[list[Any], list[Any]]:
    """The rows of ``runs``, and for each node its rows of ``TABLES``."""
    with closing(sqlite3.connect(source)) as connection:
        runs = connection.execute("SELECT * FROM runs").fetchall()
        columns = [connection.execute(query).fetchall() for query in TABLES.values()]
    return runs, list(zip(*columns, strict=True))


def _insert_run(connection: sa.Connection, rows: Sequence[Any]) -> list[None]:
    return _insert(connection, "runs", rows)


def _insert_nodes(connection: sa.Connection, nodes: Sequence[Any]) -> list[None]:
    for place, table in enumerate(TABLES):
        _insert(connection, table, [node[place] for node in nodes])
    return [None] * len(nodes)


def _insert(connection: sa.Connection, table: str, rows: Sequence[Any]) -> list[None]:
    marks = ", ".join("?" * len(rows[0]))
    connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", list(rows))  # noqa: S608 # names of our own
    return [None] * len(rows)
