"""A synthetic message of any size (default 1 GB), read end to end without a model."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from measurement import MEGABYTE, Folder, Row, Scale, Spent, folder


def measure(scale: Scale) -> list[Row]:
    """One run of the large document (it takes long), and small ones for what the start takes of the first item."""
    size = "10MB" if scale.quick else scale.large
    with folder() as place:
        document = place.path / "large.xml"
        place.thresher("sample", "--size", size, "--output", document)
        large = _run(place, document)
    starts = [_small() for _ in range(scale.rounds)]
    first_of_run = large.first_item - large.run_started
    return [
        Row(f"{size}, structural: peak memory", [large.spent.peak_mb], "MB", at_most=150),
        Row(f"{size}, structural: first item, after the run's start", [first_of_run], "s", at_most=1.0),
        Row(f"{size}, structural: first item, after the process's start", [large.first_item], "s"),
        Row("200KB, structural: first item, after the process's start", [run.first_item for run in starts], "s"),
        Row(f"{size}, structural: nodes", [large.nodes]),
        Row(f"{size}, structural: nodes per second of wall", [large.nodes / large.spent.wall], "1/s"),
        Row(f"{size}, structural: CPU per node", [large.spent.cpu / large.nodes * 1000], "ms"),
        Row(f"{size}, structural: wall", [large.spent.wall], "s"),
        Row(f"{size}, structural: database afterwards", [large.database_mb], "MB"),
    ]


@dataclass(frozen=True, slots=True)
class _Run:
    """A finished run; ``run_started`` and ``first_item`` are seconds after the process was started."""

    spent: Spent
    nodes: int
    run_started: float
    first_item: float
    database_mb: float


def _run(place: Folder, document: Path) -> _Run:
    began = datetime.now(UTC)
    spent = place.thresher("discover", document, "--provider", "structural", "--json", "--quiet")
    database = place.path / "thresher.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        started, first = connection.execute(
            "SELECT (SELECT started_at FROM runs), (SELECT min(started_at) FROM attempts)"
        ).fetchone()
    connection.close()
    nodes = int(spent.json["nodes_total"])
    return _Run(spent, nodes, _after(began, started), _after(began, first), database.stat().st_size / MEGABYTE)


def _small() -> _Run:
    with folder() as place:
        document = place.path / "small.xml"
        place.thresher("sample", "--size", "200KB", "--output", document)
        return _run(place, document)


def _after(began: datetime, stored: str) -> float:
    """Seconds from one moment to another, which is stored in UTC."""
    moment = datetime.fromisoformat(stored)
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - began).total_seconds()
