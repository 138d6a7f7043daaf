"""Where the CPU time of an item goes: one run in this process, each stage timed by the clock of its own thread.

Usage: stages.py BASE_URL DOCUMENT [WORKERS]. Prints milliseconds of CPU per item by stage. The timers themselves cost
a little, and what a group commit does for others is counted where it is done.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from documents import PATH

from thresher.bootstrap import open_discovery
from thresher.core.config import Settings
from thresher.engine.progress import ItemFinished
from thresher.engine.work import Mode
from thresher.llm.providers.openai import OpenAIClient
from thresher.llm.shapes import Reading, Shapes
from thresher.llm.structured import AnswerLadder
from thresher.persistence.repositories.store import SqlStore
from thresher.workflows.discovery import DiscoveryRequest, DiscoveryWorkflow

T = TypeVar("T")

STAGES = {
    "plan: split": (DiscoveryWorkflow, "plan"),
    "plan: store": (SqlStore, "add_items"),
    "claim": (SqlStore, "claim"),
    "next due": (SqlStore, "next_due"),
    "process": (DiscoveryWorkflow, "process"),
    "shape": (Shapes, "read"),
    "evidence": (Reading, "evidence"),
    "mask": (Reading, "masked"),
    "ask": (AnswerLadder, "ask"),
    "request": (OpenAIClient, "complete"),
    "finish": (SqlStore, "finish"),
}


class Stopwatch:
    """Sums CPU seconds by stage; a thread adds to its own sum."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its CPU time added to ``stage``."""

        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 # stands for any function
            started = time.thread_time()
            try:
                result = function(*arguments, **named)
            finally:
                self.seconds[stage] += time.thread_time() - started
            return self._stream(stage, result) if isinstance(result, Iterator) else result

        return call

    def _stream(self, stage: str, values: Iterable[T]) -> Iterator[T]:
        started = time.thread_time()
        for value in values:
            self.seconds[stage] += time.thread_time() - started
            yield value
            started = time.thread_time()


def measure(base_url: str, document: Path, workers: int) -> dict[str, float]:
    """Milliseconds of CPU per item: the parts of an item, then what is left for engine, threads and sessions."""
    watch, items = Stopwatch(), 0

    def listen(event: object) -> None:
        nonlocal items
        items += isinstance(event, ItemFinished)

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            database_url=f"sqlite:///{Path(folder) / 'stages.db'}", openai_base_url=base_url, max_parallel_nodes=workers
        )
        with open_discovery(settings) as discovery:
            new = DiscoveryWorkflow.prepare(DiscoveryRequest(document, [PATH]), Mode.PARALLEL, "benchmark")
            run = discovery.store.create_run(replace(new, provider="openai"))
            discovery.client.check()
            with watched(watch):
                started = time.process_time()
                discovery.runner.run(run.run_id, discovery.executor(Mode.PARALLEL), [listen])
                total = time.process_time() - started
    return {stage: seconds / items * 1000 for stage, seconds in _exclusive(watch.seconds, total).items()}


class watched:  # noqa: N801 # a context manager reads like a verb
    """Times the stages while inside."""

    def __init__(self, watch: Stopwatch) -> None:
        self._patches = [_patch(watch, stage, owner, name) for stage, (owner, name) in STAGES.items()]

    def __enter__(self) -> None:
        for patch in self._patches:
            patch.start()

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()


def _patch(watch: Stopwatch, stage: str, owner: type, name: str) -> Any:  # noqa: ANN401 # mock's type is private
    timed = watch.timed(stage, getattr(owner, name))
    is_bound = isinstance(owner.__dict__[name], classmethod)
    return mock.patch.object(owner, name, staticmethod(timed) if is_bound else timed)


def _exclusive(seconds: Counter[str], total: float) -> dict[str, float]:
    """Each second in one stage only."""
    inside = ("shape", "evidence", "mask", "ask")
    parts = {
        "plan: split": seconds["plan: split"],
        "plan: store": seconds["plan: store"],
        "claim": seconds["claim"] + seconds["next due"],
        "shape": seconds["shape"],
        "evidence": seconds["evidence"],
        "mask": seconds["mask"],
        "request": seconds["request"],
        "validate": seconds["ask"] - seconds["request"],
        "parse, ground, rest of the node": seconds["process"] - sum(seconds[stage] for stage in inside),
        "finish": seconds["finish"],
    }
    return {**parts, "engine, threads, rest": total - sum(parts.values())}


if __name__ == "__main__":
    many = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), many)))
