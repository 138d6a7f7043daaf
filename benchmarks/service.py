"""The server: health while 64 workers run, from commit to 50 onlookers, time to 202 for 10 MB and for 100 addresses."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from documents import PATH, write_orders
from measurement import HERE, MEGABYTE, THRESHER, Folder, Row, Scale, folder

from thresher.testing.model_server import running_model_server

LATENCY = 0.05  # seconds of the model server
WORKERS = 64
ONLOOKERS = 50
UPLOADED = 10 * MEGABYTE
ADDRESSES = 100
_ADDRESS = re.compile(r"Thresher serves at (http://\S+)")


def measure(scale: Scale) -> list[Row]:
    """A server, the model server, who asks for the health and the onlookers: a process each."""
    nodes, size = scale.pick(6_000, 640), scale.pick(UPLOADED, MEGABYTE)
    health: list[list[float]] = []
    onlookers: list[dict[str, Any]] = []
    idle, busy, batches = [], [], []
    with running_model_server(latency=LATENCY) as model:
        settings = {"OPENAI_BASE_URL": model.base_url, "MAX_PARALLEL_NODES": str(WORKERS), "CACHE_ANSWERS": "false"}
        for _ in range(scale.rounds):
            with folder(**settings) as place, _serving(place) as address:
                clients = _Clients(place, address)
                idle += [clients.upload(_document(place.path / f"idle{number}.xml", size)) for number in range(3)]
                batches += [clients.batch() for _ in range(5)]
                health.append(clients.health(nodes))
                onlookers.append(clients.onlookers(nodes))
                busy.append(clients.upload_while_busy(nodes, size))
    return [*_latencies(health, onlookers), *_uploads(size, idle, busy), _accepted(batches)]


def _latencies(health: Sequence[Sequence[float]], onlookers: Sequence[dict[str, Any]]) -> list[Row]:
    told = [round_["latencies"] for round_ in onlookers]
    rates = [max(round_["messages_per_second"]) for round_ in onlookers]
    what, whom = f"/health while {WORKERS} workers run", f"from commit to client, {ONLOOKERS} onlookers"
    return [
        Row(f"{what}: p50", [_percentile(one, 0.5) * 1000 for one in health], "ms"),
        Row(f"{what}: p99", [_percentile(one, 0.99) * 1000 for one in health], "ms", at_most=50),
        Row(f"{whom}: p50", [_percentile(one, 0.5) * 1000 for one in told], "ms"),
        Row(f"{whom}: p99", [_percentile(one, 0.99) * 1000 for one in told], "ms", at_most=100),
        Row("messages per second and onlooker, the most", rates, "1/s", at_most=20.5),
    ]


def _uploads(size: int, idle: Sequence[float], busy: Sequence[float]) -> list[Row]:
    what = f"{size / MEGABYTE:g} MB uploaded, time to 202"
    return [
        Row(what, [seconds * 1000 for seconds in idle], "ms", at_most=200),
        Row(f"{what}, while {WORKERS} workers run", [seconds * 1000 for seconds in busy], "ms"),
    ]


def _accepted(batches: Sequence[float]) -> Row:
    return Row(f"{ADDRESSES} addresses in one call, time to 202", [one * 1000 for one in batches], "ms", at_most=500)


class _Clients:
    """Asks a server, from processes of their own."""

    def __init__(self, place: Folder, address: str) -> None:
        self._place = place
        self._address = address

    def health(self, nodes: int) -> list[float]:
        """The latencies of ``/health`` while a run goes on."""
        found: list[float] = self._ask("health", self._begin(nodes))["latencies"]
        return found

    def onlookers(self, nodes: int) -> dict[str, Any]:
        """What the onlookers of a run have seen."""
        seen = self._ask("onlookers", self._begin(nodes), str(ONLOOKERS))
        assert {end["event"] for end in seen["ends"]} == {"finished"}
        assert {end["nodes"]["succeeded"] for end in seen["ends"]} == {nodes}
        return seen

    def upload(self, document: Path) -> float:
        """Seconds until the answer; the run ends before this returns."""
        answer = self._ask("upload", str(document), "/none")
        self._ask("health", answer["run_id"])
        return float(answer["seconds"])

    def batch(self) -> float:
        """Seconds until a batch is accepted. Its addresses are private, so that nothing is fetched."""
        return float(self._ask("batch", str(ADDRESSES))["seconds"])

    def upload_while_busy(self, nodes: int, size: int) -> float:
        """The same while a run goes on."""
        document = _document(self._place.path / "busy.xml", size)
        run_id = self._begin(nodes)
        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(self._ask, "health", run_id)
            seconds = float(self._ask("upload", str(document), "/none")["seconds"])
            watching.result()
        return seconds

    def _begin(self, nodes: int) -> str:
        document = self._place.path / f"orders{nodes}.xml"
        if not document.exists():
            write_orders(document, nodes)
        return str(self._ask("upload", str(document), PATH)["run_id"])

    def _ask(self, *what: str) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "service_clients.py"), self._address, *what]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@contextmanager
def _serving(place: Folder) -> Iterator[str]:
    """The address of a server on a folder's database, which ends with the block."""
    log = place.path / "server.log"
    with log.open("w") as err:
        process = place.start(THRESHER, "serve", "--port", "0", stderr=err)
        try:
            while not (found := _ADDRESS.search(log.read_text())):
                if process.poll() is not None:
                    raise RuntimeError(f"The server did not start: {log.read_text()[-2000:]}")
            yield found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _document(path: Path, size: int) -> Path:
    """A document of a size, none of whose subtrees is asked for: it is uploaded for its own sake."""
    with path.open("w") as out:
        out.write(f"<Orders><!--{path.name}-->")
        while out.tell() < size:
            out.write("<Order><Id>1234567890</Id><Note>as ordered by telephone</Note></Order>\n" * 100)
        out.write("</Orders>")
    return path


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(len(values) * share) - 1]
