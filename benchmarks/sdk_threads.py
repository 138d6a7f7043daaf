"""The plain way: the openai SDK in a ThreadPoolExecutor that only appends to a list. Prints its CPU per item.

Usage: sdk_threads.py BASE_URL DOCUMENT ITEMS. The prompts are those that Thresher sends for DOCUMENT, over and over.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from threading import Lock

import openai
from documents import PATH

from thresher.bootstrap import open_database
from thresher.core.config import Settings
from thresher.core.errors import PermanentLLMError
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.masking import Masker
from thresher.workflows.discovery import (
    NodeReader,
    SourceDocument,
    parse_paths,
    process_nodes_parallel,
    split,
)

THREADS = 10
WARM_UP = 100  # calls


class Recorder:
    """A model that keeps what it is asked and answers nothing."""

    provider = model = "recorder"
    leaves_machine = True
    resource = None
    fallbacks: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []

    def complete(self, request: ModelRequest) -> ModelReply:
        """Keeps the request."""
        self.requests.append(request)
        raise PermanentLLMError("This model only listens.")

    def check(self) -> None:
        """Always there."""

    def close(self) -> None:
        """Holds nothing."""


def prompts(document: Path) -> list[ModelRequest]:
    """What Thresher would ask about a document."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database_url=f"sqlite:///{Path(folder) / 'prompts.db'}")
        with open_database(settings) as db:
            subtrees = split(SourceDocument.open(document), parse_paths([PATH]))
            process_nodes_parallel(subtrees, NodeReader(recorder, masker=Masker()), db, parallel=False)
    return recorder.requests


def cpu_per_item(base_url: str, requests: list[ModelRequest], items: int) -> float:
    """Milliseconds of this process's CPU per call, ``THREADS`` at once."""
    client = openai.OpenAI(api_key="none", base_url=base_url, max_retries=0)
    answers: list[str] = []
    lock = Lock()

    def ask(request: ModelRequest) -> None:
        reply = client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "system", "content": request.system}, {"role": "user", "content": request.user}],
            temperature=request.temperature,
            max_tokens=request.max_output_tokens,
            response_format=request.schema.response_format,  # type: ignore[arg-type]
        )
        with lock:
            answers.append(reply.choices[0].message.content or "")

    endless = cycle(requests)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, islice(endless, WARM_UP)))
        started = time.process_time()
        list(pool.map(ask, islice(endless, items)))
        spent = time.process_time() - started
    assert len(answers) == WARM_UP + items
    assert all(answers)
    return spent / items * 1000


if __name__ == "__main__":
    asked = prompts(Path(sys.argv[2]))
    print(json.dumps({"cpu_ms_per_item": cpu_per_item(sys.argv[1], asked, int(sys.argv[3]))}))
