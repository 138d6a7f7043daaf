"""The ceiling of the model server: how many requests per second it answers, and what one costs it.

A benchmark against the model server says something of Thresher only as long as it stays well below this.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence

from measurement import Row, Scale

from thresher.testing.model_server import RunningModelServer, running_model_server

CONNECTIONS = 32
REQUESTS = 8_000
DISTINCT = 2_000

_HEAD = (
    "<OrderItem OrderItemID='OI{n}'><Price><TotalAmount CurCode='EUR'>{n}.50</TotalAmount></Price>"
    "<StatusCode>CONFIRMED</StatusCode><PaymentTimeLimit>2026-01-31T12:00:00Z</PaymentTimeLimit>"
)
_SERVICE = (
    "<Service ServiceID='SVC{n}-{m}'><PaxRefID>PAX{m}</PaxRefID><PaxSegmentRefID>SEG{n}{m}</PaxSegmentRefID>"
    "<ServiceDefinition><Name>Seat reservation</Name><BookingClass Code='Y'>Economy</BookingClass></ServiceDefinition>"
    "</Service>"
)


def measure(scale: Scale) -> list[Row]:
    """Requests per second, and microseconds of the server's CPU per request, as many times as the scale says."""
    rounds = [_ceiling() for _ in range(scale.rounds)]
    return [Row(name.replace("_", " "), [figures[name] for figures in rounds]) for name in rounds[0]]


def _ceiling() -> dict[str, float]:
    """One round.

    ``repeated_*``: one request over and over, which the server answers from what it keeps. ``distinct_*``: every
    request for another subtree of about 1.5 KB, with discovery's answer. Client and server share the machine, so
    that requests per second are a lower bound.
    """
    bodies = [_body(n) for n in range(DISTINCT)]
    with running_model_server() as server:
        repeated = _measured(server, bodies[:1] * REQUESTS)
        distinct = _measured(server, bodies)
    return {
        "request_bytes": float(len(bodies[0])),
        "repeated_requests_per_second": repeated[0],
        "repeated_cpu_microseconds": repeated[1],
        "distinct_requests_per_second": distinct[0],
        "distinct_cpu_microseconds": distinct[1],
    }


def _body(n: int) -> bytes:
    subtree = _HEAD.format(n=n) + "".join(_SERVICE.format(n=n, m=m) for m in range(6)) + "</OrderItem>"
    prompt = f"Extract the facts of this node.\n{subtree}"
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()


def _measured(server: RunningModelServer, bodies: Sequence[bytes]) -> tuple[float, float]:
    requests = [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        for body in bodies
    ]
    before, started = server.stats(), time.perf_counter()
    asyncio.run(_load(server.port, iter(requests)))
    elapsed, after = time.perf_counter() - started, server.stats()
    assert after["answered"] - before["answered"] == len(bodies)
    return len(bodies) / elapsed, (after["cpu_seconds"] - before["cpu_seconds"]) / len(bodies) * 1e6


async def _load(port: int, requests: Iterator[bytes]) -> None:
    loop = asyncio.get_running_loop()
    made = (loop.create_connection(lambda: _Client(requests), "127.0.0.1", port) for _ in range(CONNECTIONS))
    clients = [client for _, client in await asyncio.gather(*made)]
    await asyncio.gather(*(client.ended for client in clients))


class _Client(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._missing = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            end = data.index(b"\r\n\r\n") + 4
            start = data.index(b"content-length: ") + len(b"content-length: ")
            self._missing = end + int(data[start : data.index(b"\r", start)]) - len(data)
        if not self._missing:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionResetError())

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)
        else:
            self.ended.set_result(None)
            self._transport.close()
