"""Shows what differs between the facts of two runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thresher.bootstrap import make_store, open_database
from thresher.cli.evaluate import reader_of
from thresher.cli.facts import note_if_unfinished
from thresher.cli.summary import VALUES_SHOWN, print_line, short_place
from thresher.core.config import Settings
from thresher.engine.work import Run
from thresher.persistence.repositories.node_facts import FactFilter, Grounding, stream_facts
from thresher.workflows.discovery.comparison import Comparison, Difference, DifferenceKind, State, ValueChange

_MARKS = {
    DifferenceKind.ADDED: ("+", "green"),
    DifferenceKind.LOST: ("-", "red"),
    DifferenceKind.CHANGED: ("~", "yellow"),
}
_UNPROVED = " ✗"


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two runs."""

    old: Run
    new: Run

    @property
    def same_document(self) -> bool:
        """Same size and same bytes at beginning and end, wherever the file was."""
        return all(self.old.source.get(key) == self.new.source.get(key) for key in ("bytes", "fingerprint"))

    @property
    def same_reader(self) -> bool:
        """Same provider and model."""
        return (self.old.provider, self.old.model) == (self.new.provider, self.new.model)


def compare_runs(settings: Settings, runs: tuple[str, str], shown: int, *, as_json: bool) -> bool:
    """Prints what differs between two runs; returns whether nothing does. ``shown`` bounds the facts for people.

    Raises:
        NotFound: no such run.
    """
    with open_database(settings) as db:
        store = make_store(settings, db)
        pair = _Pair(*(store.find_run(name) for name in runs))
        everything = FactFilter(grounding=Grounding.ALL)
        streams = (partial(stream_facts, db, run.run_id, everything) for run in (pair.old, pair.new))
        comparison = Comparison(*streams)
        for run in (pair.old, pair.new):
            note_if_unfinished(run)
        if as_json:
            _write_json(pair, comparison)
        else:
            _print(pair, comparison, shown, Console(highlight=False))
    sys.stdout.flush()  # what cannot be written is trouble, and not found out after the exit code is chosen
    return comparison.counts.equal


# -- For programs -------------------------------------------------------------------------------------------


def _write_json(pair: _Pair, comparison: Comparison) -> None:
    """One object on one line, written as the differences come: they may be many."""
    head = {
        "old": _run(pair.old),
        "new": _run(pair.new),
        "same_document": pair.same_document,
        "same_reader": pair.same_reader,
    }
    sys.stdout.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "differences": [')
    separator = ""
    for difference in comparison.differences():
        sys.stdout.write(separator + json.dumps(_as_json(difference), ensure_ascii=False))
        separator = ", "
    tail = {"counts": asdict(comparison.counts), "equal": comparison.counts.equal}
    sys.stdout.write("], " + json.dumps(tail)[1:] + "\n")


def _run(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "file": run.source.get("name"),
        "provider": run.provider,
        "model": run.model,
    }


def _as_json(difference: Difference) -> dict[str, Any]:
    return {
        "kind": difference.kind.value,
        "section_path": difference.section_path,
        "node_type": difference.node_type,
        "values": [
            {
                "kind": change.kind,
                "name": change.name,
                "path": change.path,
                "old": change.old and change.old._asdict(),
                "new": change.new and change.new._asdict(),
            }
            for change in difference.values
        ],
    }


# -- For people ---------------------------------------------------------------------------------------------


def _print(pair: _Pair, comparison: Comparison, shown: int, console: Console) -> None:
    differences = comparison.differences()
    first = list(islice(differences, shown))
    rest = sum(1 for _ in differences)
    if first:
        console.print(_table(first))
    if rest:
        console.print(f"{rest:,} more facts differ; --limit shows more, --json all.", style="dim", markup=False)
    for label, text in _lines(pair, comparison):
        print_line(label, "bold", text, console)


def _table(differences: Iterable[Difference]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(overflow="fold")
    for difference in differences:
        mark, style = _MARKS[difference.kind]
        table.add_row(Text(mark, style=style), Text(short_place(difference.section_path)), _changes(difference))
    return table


def _changes(difference: Difference) -> Text:
    text = Text("  ").join(_change(change) for change in difference.values[:VALUES_SHOWN])
    if len(difference.values) > VALUES_SHOWN:
        text.append(f"  +{len(difference.values) - VALUES_SHOWN} more", style="dim")
    return text


def _change(change: ValueChange) -> Text:
    """``PaxID=P1`` of a value on one side, ``PaxID: P1 → P2`` of one on both; of a changed proof both marks."""
    name = f"{change.name} (reference)" if change.kind == "reference" else change.name
    sides = [state for state in (change.old, change.new) if state is not None]
    if len(sides) == 2:
        return Text.assemble((f"{name}: ", "dim"), " → ".join(map(_state, sides)))
    gone = change.new is None
    return Text.assemble((f"{'-' if gone else '+'}{name}=", "dim"), _state(sides[0]))


def _state(state: State) -> str:
    return state.value if state.grounded else f"{state.value}{_UNPROVED}"


def _lines(pair: _Pair, comparison: Comparison) -> Iterator[tuple[str, str]]:
    counts = comparison.counts
    for label, run in (("old", pair.old), ("new", pair.new)):
        yield label, f"{run.run_id}: {run.source.get('name')}, read by {reader_of(run.provider, run.model)}"
    document = "the same document" if pair.same_document else "different documents"
    reader = "the same reader" if pair.same_reader else "different readers"
    yield "between", f"{document}, {reader}"
    facts = f"{counts.added:,} added, {counts.lost:,} lost, {counts.changed:,} changed, {counts.same:,} the same"
    yield "facts", facts + (f", {counts.moved:,} the same in another place" if counts.moved else "")
    if counts.changed:
        values = f"{counts.values_changed:,} changed, {counts.values_added:,} added, {counts.values_lost:,} lost"
        yield "values", f"{values}, in facts that changed"
