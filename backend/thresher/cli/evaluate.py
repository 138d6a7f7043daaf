"""Measures the facts of a run against gold."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thresher.bootstrap import make_store, open_database
from thresher.cli.facts import note_if_unfinished
from thresher.cli.summary import print_line, short_place
from thresher.core.config import Settings
from thresher.core.errors import BadInput
from thresher.engine.work import Run
from thresher.persistence.repositories.node_facts import FactFilter, Grounding, stream_facts
from thresher.workflows.discovery.evaluation import Evaluation, Gold, Means, Mistakes, Scope, Score, evaluate
from thresher.workflows.discovery.gold_files import load_gold

__all__ = ["Scope", "Wanted", "evaluate_run", "reader_of"]

FIELDS_SHOWN = 30
NOTHING = "\u2013"  # a dash, where there is no value or measure


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ``thresher evaluate`` was asked for."""

    run: str
    gold: Path
    scope: Scope


def evaluate_run(settings: Settings, wanted: Wanted, *, as_json: bool) -> None:
    """Prints how good a run's values are.

    Raises:
        NotFound: no such run.
        BadInput: the gold cannot be used, or is that of another document.
    """
    gold = load_gold(wanted.gold)
    with open_database(settings) as db:
        run = make_store(settings, db).find_run(wanted.run)
        facts = stream_facts(db, run.run_id, FactFilter(grounding=Grounding.ALL))
        first = next(facts, None)
        found = evaluate(gold, chain(() if first is None else (first,), facts), wanted.scope)
    if found.nodes_without_facts == found.nodes_in_gold:
        raise BadInput(_strangers(wanted.gold, gold, run, first))
    note_if_unfinished(run)
    result = _result(run, wanted, found)
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    else:
        _print(result, found, Console(highlight=False))


def _strangers(path: Path, gold: Gold, run: Run, first: Mapping[str, Any] | None) -> str:
    if first is None:
        return f"The run {run.run_id} has no facts yet, so that there is nothing to evaluate."
    named = next(iter(gold.values())).section_path
    return (
        f"The gold file {path} names no node that the run {run.run_id} has facts of: "
        f"it begins with {named}, the run with {first['section_path']}. Is it the gold of another document?"
    )


def _result(run: Run, wanted: Wanted, found: Evaluation) -> dict[str, Any]:
    """The result of ``thresher evaluate --json``."""
    return {
        "run_id": run.run_id,
        "file": run.source.get("name"),
        "provider": run.provider,
        "model": run.model,
        "gold": str(wanted.gold),
        "include_ungrounded": wanted.scope.include_ungrounded,
        "all_nodes": wanted.scope.all_nodes,
        "gold_fields_only": wanted.scope.gold_fields_only,
        "nodes_in_gold": found.nodes_in_gold,
        "nodes_without_facts": found.nodes_without_facts,
        "facts_outside": found.facts_outside,
        "micro": _measures(found.micro),
        "macro": found.macro._asdict(),
        "fields": {name: _measures(score) for name, score in found.fields.items()},
        "wrong": [asdict(mistake) for mistake in found.wrong.listed],
        "missed": [asdict(mistake) for mistake in found.missed.listed],
        "extra": [asdict(mistake) for mistake in found.extra.listed],
    }


def _measures(score: Score) -> dict[str, Any]:
    return asdict(score) | {"precision": score.precision, "recall": score.recall, "f1": score.f1}


# -- For people ---------------------------------------------------------------------------------------------


def _print(result: Mapping[str, Any], found: Evaluation, console: Console) -> None:
    console.print(_scores(found))
    hidden = len(found.fields) - FIELDS_SHOWN
    if hidden > 0:
        console.print(f"{hidden:,} more fields with fewer mistakes; --json has all.", style="dim", markup=False)
    for title, mistakes in (("wrong", found.wrong), ("missed", found.missed), ("extra", found.extra)):
        if mistakes.listed:
            console.print()
            console.print(_mistakes(title, mistakes))
    console.print()
    for label, text in _lines(result):
        print_line(label, "bold", text, console)


def _scores(found: Evaluation) -> Table:
    """The fields with the most mistakes first, then all together."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("field", overflow="fold")
    for column in ("right", "false", "missing", "precision", "recall", "F1"):
        table.add_column(column, justify="right", no_wrap=True)

    def worst_first(entry: tuple[str, Score]) -> tuple[int, str]:
        return -entry[1].false_positives - entry[1].false_negatives, entry[0]

    for name, score in sorted(found.fields.items(), key=worst_first)[:FIELDS_SHOWN]:
        table.add_row(Text(name), *_cells(score))
    table.add_section()
    table.add_row("all values (micro)", *_cells(found.micro), style="bold")
    table.add_row("mean of fields (macro)", "", "", "", *_shares(found.macro))
    return table


def _cells(score: Score) -> Iterator[str]:
    for count in (score.true_positives, score.false_positives, score.false_negatives):
        yield f"{count:,}"
    yield from _shares(score)


def _shares(measured: Score | Means) -> Iterator[str]:
    for measure in (measured.precision, measured.recall, measured.f1):
        yield share(measure)


def share(measure: float | None) -> str:
    """A measure with three digits, rounded down: 1.000 only where nothing is wrong."""
    return NOTHING if measure is None else f"{int(measure * 1000 + 1e-9) / 1000:.3f}"  # 0.7 * 1000 is 699.99...


def _mistakes(title: str, mistakes: Mistakes) -> Table:
    """Mistakes of one kind, and in the head how many of them are not shown."""
    shown = len(mistakes.listed)
    head = f"{title} ({mistakes.count:,})" if shown == mistakes.count else f"{title} ({shown:,} of {mistakes.count:,})"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (head, "field", "in the gold", "in the run"):
        table.add_column(column, overflow="fold")
    for mistake in mistakes.listed:
        cells: Iterable[str | None] = (short_place(mistake.section_path), mistake.name, mistake.expected, mistake.found)
        table.add_row(*(Text(NOTHING if cell is None else cell) for cell in cells))
    return table


def _lines(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "run", f"{result['run_id']}: {result['file']}, read by {reader_of(result['provider'], result['model'])}"
    gold = f"{result['gold']}, {result['nodes_in_gold']:,} nodes"
    if result["nodes_without_facts"]:
        gold += f", {result['nodes_without_facts']:,} of them without facts in the run"
    yield "gold", gold
    yield "judged", "; ".join(_judged(result))


def _judged(result: Mapping[str, Any]) -> Iterator[str]:
    yield "all values" if result["include_ungrounded"] else "values that are proved (--include-ungrounded judges all)"
    if result["gold_fields_only"]:
        yield "fields that the gold has"
    if result["facts_outside"]:
        outside = f"{result['facts_outside']:,} facts of nodes that the gold does not name"
        yield f"{outside} too" if result["all_nodes"] else f"not {outside} (--all-nodes judges them too)"


def reader_of(provider: str | None, model: str | None) -> str:
    """Who read a run: ``structural``, or provider and model."""
    return " ".join(dict.fromkeys(name for name in (provider, model) if name)) or "nobody yet"
