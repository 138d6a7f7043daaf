"""Batch mode on tiny subtrees: requests and tokens against one request each, and whether the facts are the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measurement import Row, Scale, folder

from thresher.testing.model_server import running_model_server

PATH = "Seat"
LATENCY = 0.05  # seconds


def measure(scale: Scale) -> Sequence[Row]:
    """Both modes over the same document, against a server of their own."""
    nodes = scale.pick(1000, 100)
    rounds = [(_read("parallel", nodes), _read("batch", nodes)) for _ in range(scale.rounds)]
    fewer = [parallel.requests / batch.requests for parallel, batch in rounds]
    same = [float(parallel.facts == batch.facts) for parallel, batch in rounds]
    return [
        Row(f"parallel, {nodes} subtrees", [parallel.requests for parallel, _ in rounds], "requests"),
        Row(f"batch, {nodes} subtrees", [batch.requests for _, batch in rounds], "requests"),
        Row("how many times fewer requests", fewer, "", at_least=5),
        Row("the same facts (1: byte for byte)", same, "", at_least=1),
        Row("tokens, share of those in parallel", [batch.tokens / parallel.tokens for parallel, batch in rounds]),
        Row("parallel, wall", [parallel.seconds for parallel, _ in rounds], "s"),
        Row("batch, wall", [batch.seconds for _, batch in rounds], "s"),
    ]


@dataclass(frozen=True, slots=True)
class _Read:
    requests: int
    tokens: int
    seconds: float
    facts: str


def _read(mode: str, nodes: int) -> _Read:
    with (
        running_model_server(latency=LATENCY) as server,
        folder(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="benchmark", LLM_MODEL="benchmark") as made,
    ):
        document = _document(made.path, nodes)
        result = made.thresher("discover", document, "--path", PATH, "--mode", mode, "--json", "--quiet").json
        _check(result, server.stats(), mode, nodes)
        lines = made.thresher("facts", result["run_id"], "--include-ungrounded").out.splitlines()
        facts = [{**json.loads(line), "run_id": ""} for line in lines]
        return _Read(result["requests"], result["tokens"], result["elapsed_seconds"], json.dumps(facts))


def _check(result: dict[str, Any], stats: dict[str, Any], mode: str, nodes: int) -> None:
    """What the client says is what the server saw."""
    assert (result["mode"], result["subtrees_processed"]) == (mode, nodes), result
    assert result["requests"] == stats["requests"], (result, stats["requests"])


def _document(path: Path, nodes: int) -> Path:
    """Subtrees of about 90 bytes, each of its own text."""
    seats = "".join(
        f'<Seat id="S{number}"><Row>{number // 6}</Row><Column>{"ABCDEF"[number % 6]}</Column>'
        f"<Fee>{number * 7}</Fee></Seat>"
        for number in range(nodes)
    )
    file = path / "seats.xml"
    file.write_text(f"<SeatMap>{seats}</SeatMap>", encoding="utf-8")
    return file
