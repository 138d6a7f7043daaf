"""Real servers, in processes of their own, spoken to over HTTP on the loopback."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from command import GUARD, Thresher

XML = "application/xml"
_ADDRESS = re.compile(r"Thresher serves at (http://\S+)")


@dataclass
class RunningServer:
    """A server that answers. ``client`` knows its address; ``stop`` and ``kill`` end it."""

    process: subprocess.Popen[str]
    address: str
    client: httpx2.Client

    @property
    def websocket_address(self) -> str:
        return self.address.replace("http://", "ws://")

    def upload(self, document: Path | bytes, name: str = "document.xml", **options: Any) -> httpx2.Response:
        """Begins a run; ``query`` among the options are parameters of the address, the others fields of the form."""
        query = options.pop("query", {})
        content = document.read_bytes() if isinstance(document, Path) else document
        return self.client.post("/api/v1/runs/", files={"file": (name, content, XML)}, data=options, params=query)

    def run(self, run_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def until(self, run_id: str, is_so: Callable[[dict[str, Any]], bool], timeout: float = GUARD) -> dict[str, Any]:
        """The run as soon as something is so; fails where it never is."""
        until = time.monotonic() + timeout
        while True:
            found = self.run(run_id)
            if is_so(found):
                return found
            assert time.monotonic() < until, f"never: {found}"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)  # the server has a core to share with its runs

    def until_ended(self, run_id: str, timeout: float = GUARD) -> dict[str, Any]:
        return self.until(run_id, lambda run: run["finished_at"] is not None, timeout)

    def kill(self) -> None:
        """As by ``kill -9``."""
        self.process.kill()
        self.process.wait(timeout=GUARD)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """In good order; returns the exit code and what it said."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """The exit code and what it said, after a signal."""
        _, said = self.process.communicate(timeout=GUARD)
        return self.process.returncode, said


@contextmanager
def running_server(
    thresher: Thresher, *arguments: str, key: str | None = None, **settings: str
) -> Iterator[RunningServer]:
    """A server on the database of ``thresher``, on a free port, until the end of the block.

    ``arguments`` are options of ``thresher serve``, ``settings`` environment variables; ``key`` is sent each time.
    """
    process = thresher.start("serve", "--port", "0", *arguments, **settings)
    try:
        address = _address(process)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        with httpx2.Client(base_url=address, headers=headers, timeout=GUARD, trust_env=False) as client:
            yield RunningServer(process, address, client)
    finally:
        if process.poll() is None:
            process.kill()
        if not process.stderr.closed:
            process.communicate(timeout=GUARD)


def _address(process: subprocess.Popen[str]) -> str:
    """Where it serves, as it says itself when it answers."""
    said = []
    for line in process.stderr or ():
        said.append(line)
        if found := _ADDRESS.search(line):
            return found[1]
    raise AssertionError(f"The server did not start (exit code {process.wait(timeout=GUARD)}): {''.join(said)}")
