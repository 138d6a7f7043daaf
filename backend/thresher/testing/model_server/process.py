"""The model server in a process of its own, for the length of a ``with`` block."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
_LOOK = 0.02  # seconds between two looks at the statistics


@dataclass(frozen=True, slots=True)
class RunningModelServer:
    """A server that answers. ``base_url`` ends in ``/v1``, as OPENAI_BASE_URL wants it; ``pid`` is its process."""

    base_url: str
    address: str
    port: int
    pid: int

    def stats(self) -> Mapping[str, Any]:
        """What ``GET /stats`` says now."""
        return _asked(urllib.request.Request(f"{self.address}/stats"))  # noqa: S310  # loopback

    def reset(self) -> None:
        """Forgets all counts, refills the rate limit; the same requests draw the same faults again."""
        _asked(urllib.request.Request(f"{self.address}/reset", method="POST"))  # noqa: S310  # loopback

    def change_limit(self, rate: float, burst: int) -> None:
        """Another rate limit from now on; the server must have been started with one."""
        body = json.dumps({"rate": rate, "burst": burst}).encode()
        _asked(urllib.request.Request(f"{self.address}/limit", data=body, method="POST"))  # noqa: S310  # loopback

    def hold(self, after: int = 0) -> None:
        """Answers wait for ``release``, except those of the first ``after`` requests since the start or the reset.

        Called again with a higher number it gives those that are now among the first.
        """
        body = json.dumps({"after": after}).encode()
        _asked(urllib.request.Request(f"{self.address}/hold", data=body, method="POST"))  # noqa: S310  # loopback

    def until_held(self, count: int = 1, timeout: float = 60.0) -> None:
        """Returns when so many answers wait.

        Raises:
            TimeoutError: they do not within ``timeout`` seconds.
        """
        until = time.monotonic() + timeout
        while (held := self.stats()["held"]) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"{held} of {count} answers wait after {timeout:g} s.")
            time.sleep(_LOOK)

    def release(self) -> None:
        """Gives the answers that wait, and ends the hold."""
        _asked(urllib.request.Request(f"{self.address}/release", method="POST"))  # noqa: S310  # loopback


@contextmanager
def running_model_server(**flags: str | float | bool) -> Iterator[RunningModelServer]:
    """Starts a server on a free port, yields it when it is ready, and ends it by its pid.

    ``flags`` are those of the command line with underscores: ``latency=0.5, error_500=0.3, retry_after=True``.
    The server also ends by itself when this process does, however that happens.

    Raises:
        RuntimeError: it did not start; the message is what it said.
    """
    command = [sys.executable, "-m", "thresher.testing.model_server", "--json", "--until-stdin-closes", "--port", "0"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(  # noqa: S603  # our own module
            [*command, *_arguments(flags)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        )
        try:
            yield _ready(process, said)
        finally:
            _end(process)


def _arguments(flags: Mapping[str, str | float | bool]) -> Iterator[str]:
    for name, value in flags.items():
        if value is not False:
            yield f"--{name.replace('_', '-')}"
        if not isinstance(value, bool):
            yield str(value)


def _ready(process: subprocess.Popen[str], said: IO[str]) -> RunningModelServer:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        process.wait()
        said.seek(0)
        raise RuntimeError(f"The model server did not start: {said.read().strip()}")
    return RunningModelServer(**json.loads(line))


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _asked(request: urllib.request.Request) -> Mapping[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        answer: Mapping[str, Any] = json.loads(response.read())
    return answer
