"""The real command line, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thresher.testing.model_server import RunningModelServer

GUARD = 240.0  # seconds: against hanging only, however busy the machine
ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "samples" / "OrderViewRS_19.2.xml"
CONFIGURED = (
    *("OPENAI_", "AZURE_", "LLM_", "DATABASE_URL", "MAX_", "ENABLE_", "PRICES_FILE", "RETRY_", "LOG_", "REQUEST"),
    *(
        "TOKENS_",
        "ADAPTIVE_",
        "BREAKER_",
        "RESOURCE_",
        "HEDGE_",
        "CACHE_",
        "METRICS_",
        "OTEL_",
        "PROCESSING_",
        "BATCH_",
        "SERVE_",
        "DATA_DIR",
        "SOURCE_",
        "API_",
        "SHUTDOWN_",
        "FETCH_",
        "ALLOWED_",
        "EMAIL_",
        "NOTIFICATION_",
    ),
)


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Thresher:
    """Runs ``thresher`` in a folder, with a database of its own."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str | Path, timeout: float = GUARD, **environment: str) -> Finished:
        done = subprocess.run(
            self._command(*arguments),
            cwd=self.folder,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Starts a command and returns its process; the caller ends it."""
        return subprocess.Popen(
            self._command(*arguments),
            cwd=self.folder,
            env=self._environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def _command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "thresher", *(str(argument) for argument in arguments)]

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURED)}
        return {**kept, "COLUMNS": "160", **self.environment, **extra}


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> tuple[str, str]:
    """Sends a signal to a process and waits for its end."""
    process.send_signal(number)
    return process.communicate(timeout=GUARD)


def until_held(server: RunningModelServer, process: subprocess.Popen[str], count: int = 1) -> None:
    """Waits until so many answers of a run are held: it is under way, and cannot end before they are released."""
    while server.stats()["held"] < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Sends Ctrl-C, and waits until the run says that it has seen it."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "Stopping: finishing what is in hand" not in (line := process.stderr.readline()):
        assert line, "it says that it stops"
