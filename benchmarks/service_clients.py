"""Clients of a server, in a process of their own: `service_clients.py ADDRESS WHAT ...` prints JSON. `KINDS` are below.

Latencies are in seconds.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

PAUSE = 0.01  # seconds between two questions for the health


def health(address: str, run_id: str) -> dict[str, list[float]]:
    """How long ``/health`` takes to answer, asked over and over until a run has ended."""
    connection, latencies = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60), []
    look_at = time.perf_counter() + 1.0
    while True:
        latencies.append(_timed(connection, "/health")[0])
        if time.perf_counter() > look_at:
            look_at = time.perf_counter() + 1.0
            run = json.loads(_timed(connection, f"/api/v1/runs/{run_id}")[1])
            if run["finished_at"] is not None:
                return {"latencies": latencies}
        time.sleep(PAUSE)


def _timed(connection: http.client.HTTPConnection, path: str) -> tuple[float, bytes]:
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse().read()
    return time.perf_counter() - began, answer


def onlookers(address: str, run_id: str, count: str) -> dict[str, Any]:
    """From the oldest commit that a message tells of to its arrival, for all messages of all clients."""
    return asyncio.run(_onlookers(f"{address.replace('http', 'ws')}/api/v1/runs/{run_id}/progress", int(count)))


async def _onlookers(address: str, count: int) -> dict[str, Any]:
    """Measured from when all have their first state: that so many come at one moment is another question."""
    connections = await asyncio.gather(*(connect(address, proxy=None) for _ in range(count)))
    await asyncio.gather(*(connection.recv() for connection in connections))
    began = time.perf_counter()
    seen = await asyncio.gather(*map(_onlooker, connections))
    seconds = time.perf_counter() - began
    return {
        "latencies": [latency for latencies, _, _ in seen for latency in latencies],
        "messages_per_second": [messages / seconds for _, messages, _ in seen],
        "ends": [end for _, _, end in seen],
    }


async def _onlooker(connection: ClientConnection) -> tuple[list[float], int, dict[str, Any]]:
    latencies, messages, state = [], 0, {}
    async for text in connection:
        now, messages = time.time(), messages + 1
        state = json.loads(text)
        if state["news_since"] is not None:
            latencies.append(now - datetime.fromisoformat(state["news_since"]).timestamp())
    return latencies, messages, {"event": state["event"], "nodes": state["nodes"]}


def upload(address: str, document: str, path: str) -> dict[str, Any]:
    """The time from the first byte of a form to the answer."""
    boundary = "a-boundary-of-the-benchmark"
    body = b"".join(
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="paths"\r\n\r\n{path}\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.xml"\r\n\r\n'.encode(),
            Path(document).read_bytes(),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    run, seconds = _accepted(address, "/api/v1/runs/", body, f"multipart/form-data; boundary={boundary}")
    return {"seconds": seconds, "run_id": run["run_id"]}


def batch(address: str, count: str) -> dict[str, Any]:
    """The same for a batch of so many addresses."""
    urls = [f"http://127.0.0.1:9/{number}.xml" for number in range(int(count))]
    body = json.dumps({"urls": urls, "options": {"paths": ["/none"]}}).encode()
    found, seconds = _accepted(address, "/api/v1/batch", body, "application/json")
    return {"seconds": seconds, "batch_id": found["batch_id"]}


def _accepted(address: str, path: str, body: bytes, content_type: str) -> tuple[dict[str, Any], float]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.connect()
    began = time.perf_counter()
    connection.request("POST", path, body, {"Content-Type": content_type})
    answer = connection.getresponse()
    found, seconds = json.loads(answer.read()), time.perf_counter() - began
    assert answer.status == 202, found
    return found, seconds


KINDS = {"health": health, "onlookers": onlookers, "upload": upload, "batch": batch}

if __name__ == "__main__":
    address, what, *more = sys.argv[1:]
    print(json.dumps(KINDS[what](address, *more)))
