"""At the limit of a server: wall time over N / R, refusals, and how soon a change of the limit is followed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from documents import PATH, write_orders
from measurement import Folder, Row, Scale, Spent, folder

from thresher.testing.model_server import RunningModelServer, running_model_server

RATE = 20  # requests per second, burst the same
LATENCY = 0.1  # seconds
TOLD = {"rate_headers": True, "retry_after": True}
CHANGE_AFTER = 10.0  # seconds
WINDOW = 3.0  # seconds over which the rate after a change is taken


@dataclass(frozen=True, slots=True)
class Case:
    """So many workers at a server that tells its limit or does not."""

    workers: int
    is_told: bool

    @property
    def name(self) -> str:
        """What is measured."""
        return f"{RATE}/s {'told by headers' if self.is_told else 'not told'}, {self.workers} workers"

    @property
    def flags(self) -> Mapping[str, bool]:
        """Of the model server."""
        return TOLD if self.is_told else {}


def measure(scale: Scale) -> list[Row]:
    """All of it against the real command and the real server; no node may fail."""
    items = scale.pick(400, 80)
    cases = [Case(workers, is_told) for is_told in (True, False) for workers in (10, 64)]
    rows = [row for case in cases for row in _fixed(case, items, scale)]
    if not scale.quick:
        rows += [row for is_told in (True, False) for row in _changed(Case(64, is_told), scale)]
    return rows


def _fixed(case: Case, items: int, scale: Scale) -> list[Row]:
    times, refused, late = [], [], []
    for _ in range(scale.rounds):
        with running_model_server(rate=RATE, latency=LATENCY, **case.flags) as server:
            spent = _discover(server, items, case.workers)[0]
            stats = server.stats()
        times.append(spent.json["elapsed_seconds"] / (items / RATE))
        refused.append(stats["rate_limited"] / items)
        late.append(stats["rate_limited_late"])
    rows = [Row(f"{case.name}, {items} nodes: wall / ideal", times, "x", at_most=1.03 if case.is_told else 1.15)]
    if case.is_told:
        return [*rows, Row(f"{case.name}: refused after the first second", late, "requests", at_most=0)]
    return [*rows, Row(f"{case.name}: refused, of all nodes", refused, "", at_most=0.05)]


def _changed(case: Case, scale: Scale) -> list[Row]:
    halved = [_seconds_to(case, RATE // 2, 400) for _ in range(scale.rounds)]
    doubled = [_seconds_to(case, RATE * 2, 1_200) for _ in range(scale.rounds)]
    return [
        Row(f"{case.name}: seconds until a halved limit is kept", halved, "s", at_most=5),
        Row(f"{case.name}: seconds until a doubled limit is used", doubled, "s", at_most=15),
    ]


def _seconds_to(case: Case, rate: int, items: int) -> float:
    """Seconds from the change until the rate of answers, over ``WINDOW``, is within a tenth of the new limit."""
    with running_model_server(rate=RATE, latency=LATENCY, **case.flags) as server:
        changed: list[datetime] = []

        def change() -> None:
            server.change_limit(rate, rate)
            changed.append(datetime.now())  # noqa: DTZ005 # compared after conversion to seconds

        timer = threading.Timer(CHANGE_AFTER + 1.0, change)  # a second for the start of the process
        timer.start()
        try:
            _, ends = _discover(server, items, case.workers)
        finally:
            timer.cancel()
            timer.join()
    at = changed[0].timestamp()
    return next(
        (step / 4 for step in range(240) if _is_near(ends, at + step / 4, rate)),
        60.0,
    )


def _is_near(ends: list[float], at: float, rate: int) -> bool:
    answered = sum(at <= end < at + WINDOW for end in ends)
    return abs(answered / WINDOW - rate) <= 0.1 * rate


def _discover(server: RunningModelServer, items: int, workers: int) -> tuple[Spent, list[float]]:
    """One run, and when its nodes were done (seconds since the epoch)."""
    with folder(OPENAI_BASE_URL=server.base_url) as place:
        document = place.path / "orders.xml"
        write_orders(document, items)
        options = ("--path", PATH, "--workers", str(workers), "--json", "--quiet")
        spent = place.thresher("discover", document, *options)
        assert spent.json["subtrees_processed"] == items, spent.json
        return spent, _ends(place)


def _ends(place: Folder) -> list[float]:
    connection = sqlite3.connect(Path(place.path) / "thresher.db")
    try:
        rows: list[Any] = connection.execute(
            "SELECT (julianday(started_at) - 2440587.5) * 86400.0 + duration_seconds FROM attempts "
            "WHERE status = 'succeeded'"
        ).fetchall()
    finally:
        connection.close()
    return [row[0] for row in rows]
