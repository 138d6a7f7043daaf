"""Short latencies, stragglers, and runs of any length: what the engine itself takes."""

from __future__ import annotations

import heapq
import math
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing

from documents import PATH, write_orders
from measurement import Folder, Row, Scale, Spent, folder

from thresher.testing.model_server import running_model_server

SHORT = 0.05  # seconds
USUAL = 0.2  # seconds
SLOWER = 10  # times


def measure(scale: Scale) -> list[Row]:
    """Each against a server of its own."""
    return [*_short(scale), *_stragglers(scale), *_flat(scale)]


def _short(scale: Scale) -> list[Row]:
    nodes, workers = scale.pick(1_000, 192), 64
    ideal = math.ceil(nodes / workers) * SHORT
    with running_model_server(latency=SHORT) as server:
        runs = [_run(server.base_url, nodes, workers).json["elapsed_seconds"] for _ in range(scale.rounds)]
    name = f"{nodes} nodes, {workers} at once, {SHORT:g} s each: wall / ideal"
    return [Row(name, [seconds / ideal for seconds in runs], "x", at_most=1.6)]


def _stragglers(scale: Scale) -> list[Row]:
    """The ideal is the work-conserving schedule of the same requests in the same order; see ``scheduled``."""
    nodes, workers = scale.pick(1_000, 200), 20
    shares, gapless = [], []
    for _ in range(scale.rounds):
        with running_model_server(latency=USUAL, slow=0.01, seed=7) as server, _place(server.base_url) as place:
            elapsed = _discover(place, nodes, workers).json["elapsed_seconds"]
            latencies = [SLOWER * USUAL if took > SLOWER / 2 * USUAL else USUAL for took in _durations(place)]
            assert latencies.count(SLOWER * USUAL) == server.stats()["slow"]
        shares.append(scheduled(latencies, workers) / elapsed)
        gapless.append(sum(latencies) / workers / elapsed)
    name = f"{nodes} nodes, {workers} at once, 1 % ten times slower: share of the ideal"
    return [
        Row(name, shares, "x", at_least=0.9),
        Row("  the same against the sum of all latencies over the workers", gapless, "x"),
    ]


def scheduled(latencies: Sequence[float], workers: int) -> float:
    """Seconds that the work takes where each worker that is free takes the next request at once (list scheduling).

    No schedule that does not know beforehand which requests are slow does better but by chance: one that begins late
    is waited for alone.
    """
    free_at = [0.0] * workers
    for latency in latencies:
        heapq.heapreplace(free_at, free_at[0] + latency)
    return max(free_at)


def _durations(place: Folder) -> list[float]:
    """Seconds of each attempt, in the order of their beginnings."""
    with closing(sqlite3.connect(place.path / "thresher.db")) as connection:
        found = connection.execute("SELECT duration_seconds FROM attempts ORDER BY started_at").fetchall()
    return [seconds for (seconds,) in found]


def _flat(scale: Scale) -> list[Row]:
    """CPU of one more item and peak memory, in a short run and in a long one."""
    few, some, many = scale.pick(1_000, 100), scale.pick(5_000, 300), scale.pick(50_000, 900)
    with running_model_server() as server:
        spent = {nodes: _run(server.base_url, nodes, 10) for nodes in (few, some, many)}
    early = (spent[some].cpu - spent[few].cpu) / (some - few)
    late = (spent[many].cpu - spent[some].cpu) / (many - some)
    return [
        Row(f"CPU of an item, {few:,} to {some:,}", [early * 1000], "ms"),
        Row(f"CPU of an item, {some:,} to {many:,}", [late * 1000], "ms"),
        Row("CPU of an item, late / early", [late / early], "x", at_most=1.2),
        Row(f"peak memory, {few:,} nodes", [spent[few].peak_mb], "MB"),
        Row(f"peak memory, {many:,} nodes", [spent[many].peak_mb], "MB"),
        Row("peak memory, many / few", [spent[many].peak_mb / spent[few].peak_mb], "x", at_most=1.1),
    ]


def _place(base_url: str) -> AbstractContextManager[Folder]:
    return folder(OPENAI_BASE_URL=base_url)


def _run(base_url: str, nodes: int, workers: int) -> Spent:
    with _place(base_url) as place:
        return _discover(place, nodes, workers)


def _discover(place: Folder, nodes: int, workers: int) -> Spent:
    document = place.path / "orders.xml"
    write_orders(document, nodes)
    spent = place.thresher("discover", document, "--path", PATH, "--workers", str(workers), "--json", "--quiet")
    assert spent.json["subtrees_processed"] == nodes, spent.json
    return spent
