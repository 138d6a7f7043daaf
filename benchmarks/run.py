"""Runs benchmarks by name and shows their figures beside their targets: ``make bench ARGS="wall cpu --quick"``.

Each benchmark is a module of this folder with ``measure(scale) -> rows``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from measurement import HERE, Row, Scale

BENCHMARKS = (
    *("startup", "wall", "cpu", "memory", "group_commit", "splitter", "model_server_ceiling", "second_run"),
    *("limits", "throughput", "peers", "batch", "service", "large"),
)
RESULTS = HERE / "results"
VERDICTS = {None: "", True: "ok", False: "MISSED"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for; 1 where a target was missed and ``--strict`` was given."""
    options = _parser().parse_args(arguments)
    scale = Scale(options.quick, options.rounds or (1 if options.quick else 3), options.large)
    missed = 0
    for name in options.names or BENCHMARKS:
        print(f"\n{name}: {_summary(name)}", flush=True)
        started = time.perf_counter()
        rows = importlib.import_module(name).measure(scale)
        for row in rows:
            print(_line(row))
        print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)
        _keep(name, scale, rows)
        missed += sum(row.passed is False for row in rows)
    print(f"\n{missed} targets missed." if missed else "\nAll targets reached.")
    return 1 if missed and options.strict else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", choices=(*BENCHMARKS, []), metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a smoke run: small, one round; figures mean little")
    parser.add_argument("--rounds", type=int, help="repetitions of each figure, whose median counts (3)")
    parser.add_argument("--large", default="1GB", metavar="SIZE", help="of the large document (1GB)")
    parser.add_argument("--strict", action="store_true", help="end with code 1 where a target is missed")
    return parser


def _summary(name: str) -> str:
    """The first line of a module's docstring."""
    return (importlib.import_module(name).__doc__ or "").partition("\n")[0]


def _line(row: Row) -> str:
    value = f"{row.value:,.{_digits(row.value)}f} {row.unit}".rstrip()
    low, high = min(row.values), max(row.values)
    digits = _digits(high)
    spread = f"{low:,.{digits}f} to {high:,.{digits}f}" if len(row.values) > 1 else ""
    return f"  {row.name:72} {value:>14}  {spread:20} {row.target:>8}  {VERDICTS[row.passed]}".rstrip()


def _digits(value: float) -> int:
    """Decimals that show about four figures."""
    return 3 if value < 10 else 1 if value < 1_000 else 0


def _keep(name: str, scale: Scale, rows: Sequence[Row]) -> None:
    """Writes the figures with what they were measured on; the newest run of a benchmark stays."""
    RESULTS.mkdir(exist_ok=True)
    result = {
        "benchmark": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "quick": scale.quick,
        "rounds": scale.rounds,
        "rows": [row.to_dict() for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
