"""CPU per call of our client and of the openai SDK's ``create``, at zero latency, against prepared replies."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import openai
from pydantic import BaseModel

from thresher.llm.client import ModelRequest
from thresher.llm.providers.openai import Connections, OpenAIClient
from thresher.llm.providers.preparation import OpenAIServer
from thresher.llm.schema import ResponseSchema

THREADS = 10
CALLS = 1_000


class Fact(BaseModel):
    """One fact."""

    name: str
    value: str
    path: str


class Answer(BaseModel):
    """Twelve facts."""

    fields: list[Fact]
    confidence: float


def _prepared_reply() -> bytes:
    facts = [{"name": f"n{n}", "value": f"value {n}", "path": f"A/B[{n}]"} for n in range(12)]
    message = {"role": "assistant", "content": json.dumps({"fields": facts, "confidence": 0.9})}
    reply = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 500, "completion_tokens": 200, "total_tokens": 700},
    }
    body = json.dumps(reply).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class _Prepared(asyncio.Protocol):
    reply = _prepared_reply()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if separator:
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(rest) >= length:
                self._buffer = rest[length:]
                self._transport.write(self.reply)  # type: ignore[attr-defined]


def _serve(ready: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Prepared, "127.0.0.1", 0, backlog=256)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def _cpu_per_call(call: Callable[[], object]) -> float:
    """Microseconds of this process's CPU per call, ``THREADS`` at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: call(), range(100)))
        start = time.process_time()
        list(pool.map(lambda _: call(), range(CALLS)))
        return (time.process_time() - start) / CALLS * 1e6


def measure() -> dict[str, float]:
    """Microseconds of CPU per call, best of three rounds in turn, and their ratio."""
    receiver, sender = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(sender,), daemon=True)
    server.start()
    try:
        return _measured(f"http://127.0.0.1:{receiver.recv()}/v1")
    finally:
        server.terminate()
        server.join()


def _measured(base_url: str) -> dict[str, float]:
    schema = ResponseSchema.of_model(Answer)
    user = '<Pax PaxID="1"><A>b</A></Pax>' * 50
    system = "Extract facts. " * 40
    ours = OpenAIClient("m", OpenAIServer("k", base_url), connections=Connections(workers=THREADS))
    sdk = openai.OpenAI(api_key="k", base_url=base_url, max_retries=0)
    request = ModelRequest(system, user, user, schema, 1_000)

    def ask_sdk() -> object:
        return sdk.chat.completions.create(
            model="m",
            messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
            temperature=0,
            max_tokens=1_000,
            response_format=schema.response_format,  # type: ignore[arg-type]
        )

    rounds = [(_cpu_per_call(lambda: ours.complete(request)), _cpu_per_call(ask_sdk)) for _ in range(3)]
    complete, create = (min(values) for values in zip(*rounds, strict=True))
    ours.close()
    sdk.close()
    return {"complete_us": complete, "create_us": create, "ratio": complete / create}


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:12} {value:8.2f}")
