"""What others do at a limit of 20 requests/s and at short latencies, with their defaults (make bench-peers)."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from documents import write_orders
from measurement import Folder, Row, Scale, folder

from thresher.testing.model_server import running_model_server

PEERS = Path(sys.prefix).with_name(".venv-peers") / "bin" / "python"
PACKAGES = {"openai-threads": "openai", "openai-gather": "openai", "instructor": "instructor"}
WAYS = ("openai-threads", "openai-gather", "instructor", "litellm", "langextract")
RATE = 20  # requests per second
SHORT = 0.05  # seconds
WORKERS = 64


def measure(scale: Scale) -> list[Row]:
    """One round of each: they take long. The SDK's rows are always there, the others where they are installed."""
    with folder() as place:
        file = _prompts(place)
        return [row for way, python in _installed() for row in _rows(place, python, way, file, scale)]


def _installed() -> Iterator[tuple[str, str]]:
    for way in WAYS:
        if PEERS.exists() and _has(str(PEERS), PACKAGES.get(way, way)):
            yield way, str(PEERS)
        elif way.startswith("openai"):
            yield way, sys.executable


def _has(python: str, package: str) -> bool:
    return subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0


def _rows(place: Folder, python: str, way: str, file: Path, scale: Scale) -> list[Row]:
    items = scale.pick(400, 60)
    with running_model_server(rate=RATE, latency=0.1, rate_headers=True, retry_after=True) as server:
        limited = _asked(place, python, way, (server.base_url, file), (items, WORKERS))
        refused = server.stats()["rate_limited"]
    nodes = scale.pick(1_000, 64)
    with running_model_server(latency=SHORT) as server:
        quick = _asked(place, python, way, (server.base_url, file), (nodes, WORKERS))
    ideal = math.ceil(nodes / WORKERS) * SHORT
    return [
        Row(f"{way}: {RATE}/s, {items} items, {WORKERS} workers: lost", [limited["lost"]]),
        Row(f"{way}: {RATE}/s: refused", [refused]),
        Row(f"{way}: {RATE}/s: wall / ideal", [limited["seconds"] / (items / RATE)], "x"),
        Row(f"{way}: {SHORT:g} s each, {nodes} items: wall / ideal", [quick["seconds"] / ideal], "x"),
        Row(f"{way}: {SHORT:g} s each: CPU per item", [quick["cpu_ms_per_item"]], "ms"),
    ]


def _asked(place: Folder, python: str, way: str, where: tuple[str, Path], counts: tuple[int, int]) -> Any:  # noqa: ANN401
    script = Path(__file__).with_name("peer_clients.py")
    spent = place.run(python, script, way, *map(str, where), *map(str, counts))
    return json.loads(spent.out.splitlines()[-1])


def _prompts(place: Folder) -> Path:
    """Those that Thresher sends for a document of ours."""
    from sdk_threads import prompts  # noqa: PLC0415 # heavy

    document = place.path / "orders.xml"
    write_orders(document, 100)
    file = place.path / "prompts.json"
    asked = [
        {"system": request.system, "user": request.user, "schema": request.schema.response_format}
        for request in prompts(document)
    ]
    file.write_text(json.dumps(asked), encoding="utf-8")
    return file
