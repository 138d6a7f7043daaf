"""Those who look on: real WebSocket clients, readers of server-sent events, and one that never reads."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2
from command import GUARD
from server import RunningServer
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

State = dict[str, Any]


def address_of(server: RunningServer, run_id: str, query: str = "") -> str:
    return f"{server.websocket_address}/api/v1/runs/{run_id}/progress{query}"


def looking_on(server: RunningServer, run_id: str, query: str = "", **headers: str) -> ClientConnection:
    """A connection; ``recv()`` gives a state as JSON."""
    return connect(address_of(server, run_id, query), additional_headers=headers, proxy=None)


def until_closed(connection: ClientConnection) -> tuple[list[State], int | None]:
    """All states that are still sent, and the code that the connection is closed with."""
    states = []
    try:
        while True:
            states.append(json.loads(connection.recv(timeout=GUARD)))
    except ConnectionClosed as closed:
        return states, closed.rcvd.code if closed.rcvd else None


def until_stopping(server: RunningServer, run_id: str, **headers: str) -> None:
    """Returns when the run takes up no further node."""
    with looking_on(server, run_id, **headers) as connection:
        while not json.loads(connection.recv(timeout=GUARD))["stopping"]:
            pass


async def seen_by_one(address: str, arrived: Callable[[], None]) -> tuple[list[State], int | None]:
    """All that one of many clients sees until its connection is closed; says when it is there."""
    async with connect_async(address, proxy=None) as connection:
        states = [json.loads(await connection.recv())]
        arrived()
        states += [json.loads(text) async for text in connection]
        return states, connection.close_code


def one_that_never_reads(address: str) -> socket.socket:
    """A WebSocket whose other end can send nothing any more once the smallest buffers are full."""
    parts = urlsplit(address)
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    opened.connect((parts.hostname, parts.port))
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )
    opened.sendall("\r\n".join((*head, "", "")).encode())
    assert opened.recv(12) == b"HTTP/1.1 101"
    return opened


def server_sent(server: RunningServer, run_id: str, **headers: str) -> Iterator[Mapping[str, str]]:
    """The events of a run as fields; comments have the name ``""``."""
    with server.client.stream("GET", f"/api/v1/runs/{run_id}/events", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield from _parsed(answer)


def _parsed(answer: httpx2.Response) -> Iterator[Mapping[str, str]]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


def assert_law_one(states: Sequence[State]) -> None:
    """Counts add up and only grow, nothing is over 100 %, and the end is told once, last."""
    assert states
    finished, seen = 0, []
    for state in states:
        nodes = state["nodes"]
        ended = sum(nodes[name] for name in ("succeeded", "skipped", "dead", "cancelled"))
        assert ended + nodes["pending"] + nodes["running"] == nodes["total"]
        seen.append((state["source"], state["status"], ended, nodes["total"]))
        assert finished <= ended <= nodes["total"], seen
        assert state["share"] is None or 0 <= state["share"] <= 1
        finished = ended
    numbers = [state["number"] for state in states]
    assert numbers == sorted(set(numbers))
    assert [state["event"] for state in states] == ["progress"] * (len(states) - 1) + ["finished"]
