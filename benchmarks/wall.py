"""Wall time over ideal = ceil(nodes / workers) x latency, against a server that takes that long for each answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from documents import PATH, write_orders
from measurement import Row, Scale, folder

from thresher.testing.model_server import running_model_server

LATENCY = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Case:
    """So many nodes by so many workers (one: in the calling thread)."""

    nodes: int
    workers: int
    target: float

    @property
    def ideal(self) -> float:
        """Seconds, if nothing but the server took time."""
        return math.ceil(self.nodes / self.workers) * LATENCY

    @property
    def options(self) -> tuple[str, ...]:
        """Of the command line."""
        return ("--workers", str(self.workers)) if self.workers > 1 else ("--sequential",)


def cases(scale: Scale) -> tuple[Case, ...]:
    """Those that have a target."""
    return (
        Case(scale.pick(1_000, 192), 64, 1.05),
        Case(scale.pick(200, 30), 10, 1.03),
        Case(scale.pick(20, 4), 1, 1.02),
    )


def measure(scale: Scale) -> list[Row]:
    """``run``: what the run says of itself (elapsed_seconds); ``process``: from its start to its exit, imports too."""
    with running_model_server(latency=LATENCY) as server:
        return [row for case in cases(scale) for row in _rows(case, scale, server.base_url)]


def _rows(case: Case, scale: Scale, base_url: str) -> list[Row]:
    runs, processes = [], []
    for _ in range(scale.rounds):
        with folder(OPENAI_BASE_URL=base_url) as place:
            document = place.path / "orders.xml"
            write_orders(document, case.nodes)
            spent = place.thresher("discover", document, "--path", PATH, *case.options, "--json", "--quiet")
            assert spent.json["subtrees_processed"] == case.nodes
            runs.append(spent.json["elapsed_seconds"] / case.ideal)
            processes.append(spent.wall / case.ideal)
    what = f"{case.nodes} nodes, {case.workers} at once, {LATENCY:g} s each (ideal {case.ideal:g} s)"
    return [Row(f"{what}: run", runs, "x", at_most=case.target), Row(f"{what}: process", processes, "x")]
