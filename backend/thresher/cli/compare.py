"""Shows what differs between the facts of two runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thresher.bootstrap import make_store, open_database
from thresher.cli.evaluate import reader_of
from thresher.cli.facts import note_if_unfinished
from thresher.cli.summary import VALUES_SHOWN, print_line, short_place
from thresher.core.config import Settings
from thresher.operations.comparisons import Pair, compare, json_of
from thresher.workflows.discovery.comparison import Comparison, Difference, DifferenceKind, State, ValueChange

_MARKS = {
    DifferenceKind.ADDED: ("+", "green"),
    DifferenceKind.LOST: ("-", "red"),
    DifferenceKind.CHANGED: ("~", "yellow"),
}
_UNPROVED = " ✗"


def compare_runs(settings: Settings, runs: tuple[str, str], shown: int, *, as_json: bool) -> bool:
    """Prints what differs between two runs; returns whether nothing does. ``shown`` bounds the facts for people.

    Raises:
        NotFound: no such run.
    """
    with open_database(settings) as db:
        store = make_store(settings, db)
        pair = Pair(*(store.find_run(name) for name in runs))
        comparison = compare(db, pair)
        for run in (pair.old, pair.new):
            note_if_unfinished(run)
        if as_json:
            sys.stdout.writelines(json_of(pair, comparison))
        else:
            _print(pair, comparison, shown, Console(highlight=False))
    sys.stdout.flush()  # what cannot be written is trouble, and not found out after the exit code is chosen
    return comparison.counts.equal


def _print(pair: Pair, comparison: Comparison, shown: int, console: Console) -> None:
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


def _lines(pair: Pair, comparison: Comparison) -> Iterator[tuple[str, str]]:
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
