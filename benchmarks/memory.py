"""Peak resident memory of ``thresher discover`` with many workers."""

from __future__ import annotations

from documents import PATH, write_orders
from measurement import Row, Scale, folder

from thresher.testing.model_server import running_model_server

WORKERS = 64


def measure(scale: Scale) -> list[Row]:
    """Whole processes: with many nodes, and with one node by one worker for what start and imports take of it."""
    nodes = scale.pick(1_000, 200)
    with running_model_server(latency=0.1) as server:
        peaks = [_peak(server.base_url, nodes, WORKERS) for _ in range(scale.rounds)]
        smallest = [_peak(server.base_url, 1, 1) for _ in range(scale.rounds)]
    structural = [_peak(None, nodes, WORKERS) for _ in range(scale.rounds)]
    return [
        Row(f"peak memory, {nodes} nodes, {WORKERS} at once", peaks, "MB", at_most=120),
        Row("peak memory, 1 node, 1 worker", smallest, "MB"),
        Row(f"peak memory, {nodes} nodes, {WORKERS} at once, structural", structural, "MB"),
    ]


def _peak(base_url: str | None, nodes: int, workers: int) -> float:
    with folder(**({"OPENAI_BASE_URL": base_url} if base_url else {})) as place:
        document = place.path / "orders.xml"
        write_orders(document, nodes)
        options = ("--path", PATH, "--workers", str(workers), "--json", "--quiet")
        return place.thresher("discover", document, *options).peak_mb
