"""Short latencies, stragglers, and runs of any length: what the engine itself takes."""

from __future__ import annotations

import math

from documents import PATH, write_orders
from measurement import Row, Scale, Spent, folder

from thresher.testing.model_server import running_model_server

SHORT = 0.05  # seconds
USUAL = 0.2  # seconds


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
    """The ideal is work-conserving: the sum of all latencies, spread over the workers without a gap."""
    nodes, workers = scale.pick(1_000, 200), 20
    shares = []
    for _ in range(scale.rounds):
        with running_model_server(latency=USUAL, slow=0.01, seed=7) as server:
            elapsed = _run(server.base_url, nodes, workers).json["elapsed_seconds"]
            slow = server.stats()["slow"]
        shares.append((nodes + 9 * slow) * USUAL / workers / elapsed)
    return [
        Row(f"{nodes} nodes, {workers} at once, 1 % ten times slower: share of the ideal", shares, "x", at_least=0.9)
    ]


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


def _run(base_url: str, nodes: int, workers: int) -> Spent:
    with folder(OPENAI_BASE_URL=base_url) as place:
        document = place.path / "orders.xml"
        write_orders(document, nodes)
        spent = place.thresher("discover", document, "--path", PATH, "--workers", str(workers), "--json", "--quiet")
        assert spent.json["subtrees_processed"] == nodes, spent.json
        return spent
