"""What a benchmark is made of: its scale, its figures, and processes that are measured from outside.

Import nothing heavy here: on Linux a child's ``ru_maxrss`` starts at the resident size of the process that started it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
THRESHER = Path(sys.executable).with_name("thresher")
CONFIGURED = (
    "OPENAI_",
    "AZURE_",
    "LLM_",
    "DATABASE_URL",
    "MAX_",
    "ENABLE_",
    "PRICES_FILE",
    "RETRY_",
    "LOG_",
    "MASK_",
    "PROCESSING_",
    "BATCH_",
    "CACHE_",
    "DATA_DIR",
    "SERVE_",
)
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. ``rounds`` repetitions of each figure; ``large`` is the size of the large document."""

    quick: bool = False
    rounds: int = 3
    large: str = "1GB"

    def pick(self, full: int, quick: int) -> int:
        """A number for the whole measurement, or for a smoke run."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: its median counts. ``at_most`` or ``at_least`` is its target; none where it only informs."""

    name: str
    values: Sequence[float]
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def value(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.values)

    @property
    def target(self) -> str:
        """The target in words, empty where there is none."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g}" if self.at_least is not None else ""

    @property
    def passed(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return self.value >= self.at_least if self.at_least is not None else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "values": list(self.values),
            "unit": self.unit,
            "target": self.target,
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process took from its start to its end: seconds of wall and CPU, its peak resident size in MB."""

    wall: float
    cpu: float
    peak_mb: float
    out: str

    @property
    def json(self) -> Any:  # noqa: ANN401 # whatever the process printed
        """Its standard output, read as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Folder:
    """A temporary folder with a database of its own; ``environment`` is added to what is not about Thresher."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def thresher(self, *arguments: str | Path) -> Spent:
        """Runs the real command to its end."""
        return self.run(THRESHER, *arguments)

    def python(self, script: str, *arguments: str | Path) -> Spent:
        """Runs a script of this folder in a process of its own."""
        return self.run(sys.executable, HERE / script, *arguments)

    def run(self, *command: str | Path) -> Spent:
        """Runs a command to its end.

        Raises:
            RuntimeError: it ended with another code than 0; the message is what it said.
        """
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            started = time.perf_counter()
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.path,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            if process.returncode:
                raise RuntimeError(
                    f"{command} ended with {process.returncode}: {out.read()[-500:]}{err.read()[-2000:]}"
                )
            cpu = usage.ru_utime + usage.ru_stime
            return Spent(wall, cpu, usage.ru_maxrss * _RSS_UNIT / MEGABYTE, out.read())

    def start(self, *command: str | Path, stderr: IO[str]) -> subprocess.Popen[bytes]:
        """Starts a command; the caller ends it."""
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.path,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURED)}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's machine keeps what was compiled: a third of a start
        return {**kept, **self.environment}


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB elsewhere


@contextmanager
def folder(**environment: str) -> Iterator[Folder]:
    """A folder with an up-to-date, empty database, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="thresher-bench-") as path:
        made = Folder(Path(path), environment)
        made.thresher("db", "upgrade", "--quiet")
        yield made
