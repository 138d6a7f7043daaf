"""The dead letters of a run: what failed for good, with every try."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from thresher.bootstrap import open_discovery
from thresher.cli.failures import harmless
from thresher.core.config import Settings
from thresher.engine.work import AttemptRecord
from thresher.operations.formats import duration
from thresher.persistence.repositories.items import DeadLetter, attempts_of, dead_letters


def print_dead(
    settings: Settings, run_id: str, error_classes: Sequence[str], *, with_answers: bool, as_json: bool
) -> None:
    """Prints the dead letters of a run (with one of these errors) in document order.

    Raises:
        NotFound: no such run.
    """
    with open_discovery(settings) as discovery:
        run = discovery.store.find_run(run_id)
        letters = dead_letters(discovery.db, run.run_id, error_classes)
        tries = ((letter, attempts_of(discovery.db, letter.item_id)) for letter in letters)
        if as_json:
            rows = [dead_letter(run.run_id, letter, attempts) for letter, attempts in tries]
            sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
            return
        for letter, attempts in tries:
            _print(letter, attempts, with_answers=with_answers)
        sys.stdout.write(_closing(run.run_id, len(letters), error_classes) + "\n")


def dead_letter(run_id: str, letter: DeadLetter, attempts: Sequence[AttemptRecord]) -> dict[str, Any]:
    """A dead letter for programs."""
    return {
        "run_id": run_id,
        "item_id": letter.item_id,
        "path": letter.key,
        "error_class": letter.error_class,
        "error_message": letter.error_message,
        "raw_answer": letter.raw_answer,
        "attempts": [_attempt(attempt) for attempt in attempts],
    }


def _attempt(attempt: AttemptRecord) -> dict[str, Any]:
    usage = attempt.usage
    return {
        "number": attempt.number,
        "status": attempt.status.value,
        "error_class": attempt.error_class,
        "error_message": attempt.error_message,
        "started_at": attempt.started_at.isoformat(),
        "duration_seconds": round(attempt.duration, 3),
        "requests": usage.requests,
        "tokens": usage.prompt_tokens + usage.completion_tokens,
        "cost_usd": None if usage.cost_usd is None else round(usage.cost_usd, 6),
        "raw_answer": attempt.raw_answer,
    }


def _print(letter: DeadLetter, attempts: Sequence[AttemptRecord], *, with_answers: bool) -> None:
    lines = [
        f"{letter.key}  (item {letter.item_id})",
        f"  {letter.error_class}: {letter.error_message}",
        *(f"  try {attempt.number}: {_told(attempt)}" for attempt in attempts),
    ]
    if with_answers and letter.raw_answer is not None:
        lines += ["  its last answer that was of no use:", *(f"  | {line}" for line in letter.raw_answer.splitlines())]
    elif letter.raw_answer is not None:
        lines.append(f"  an answer of {len(letter.raw_answer):,} characters is kept (--raw prints it)")
    sys.stdout.write("".join(f"{harmless(line)}\n" for line in lines) + "\n")


def _told(attempt: AttemptRecord) -> str:
    """One try in a line: when, how it ended, how long it took, what it cost."""
    usage = attempt.usage
    cost = "cost unknown" if usage.cost_usd is None else f"{usage.cost_usd:.4f} USD"
    ended = attempt.status.value if attempt.error_class is None else f"{attempt.status}, {attempt.error_class}"
    when = f"{attempt.started_at:%Y-%m-%d %H:%M:%S}"
    return f"{when} {ended}, {duration(attempt.duration)}, {usage.requests} requests, {cost}"


def _closing(run_id: str, count: int, error_classes: Sequence[str]) -> str:
    with_errors = f" with {' or '.join(error_classes)}" if error_classes else ""
    if not count:
        return f"Run {run_id} has no failed nodes{with_errors}."
    nodes = "1 failed node" if count == 1 else f"{count:,} failed nodes"
    return f"{nodes}{with_errors}; `thresher retry {run_id}` tries them again (--item and --error-class: some of them)."
