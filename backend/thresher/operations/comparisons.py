"""Two runs beside each other: what became of the facts of the one in the other."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from thresher.engine.work import Run
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.node_facts import FactFilter, Grounding, stream_facts
from thresher.workflows.discovery.comparison import Comparison, Counts, Difference, DifferenceKind, State
from thresher.workflows.discovery.spreadsheet_cells import safe_cell

CSV_COLUMNS = (
    *("difference", "section_path", "node_type", "kind", "name", "path"),
    *("old", "old_grounded", "new", "new_grounded"),
)


@dataclass(frozen=True, slots=True)
class Pair:
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


def compare(db: ThreadSafeDatabaseManager, pair: Pair) -> Comparison:
    """The comparison of all facts of two runs, ungrounded values included."""
    everything = FactFilter(grounding=Grounding.ALL)
    return Comparison(*(partial(stream_facts, db, run.run_id, everything) for run in (pair.old, pair.new)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which differences are looked at: of these kinds and this node type (empty, None: any), so many behind so many."""

    kinds: frozenset[DifferenceKind] = frozenset()
    node_type: str | None = None
    skip: int = 0
    limit: int = 50

    def includes(self, difference: Difference) -> bool:
        """Whether a difference is one of them, wherever it stands."""
        of_kind = not self.kinds or difference.kind in self.kinds
        return of_kind and self.node_type in {None, difference.node_type}


@dataclass(frozen=True, slots=True)
class Look:
    """What was found. ``matching``: how many are wanted; ``node_types``: those of all differences, how many of each."""

    differences: Sequence[Difference]
    matching: int
    node_types: Mapping[str, int]
    counts: Counts


def look(comparison: Comparison, wanted: Wanted) -> Look:
    """Goes through a comparison once and keeps what is wanted of it."""
    kept: list[Difference] = []
    node_types: Counter[str] = Counter()
    matching = 0
    for difference in comparison.differences():
        node_types[difference.node_type] += 1
        if not wanted.includes(difference):
            continue
        if wanted.skip <= matching < wanted.skip + wanted.limit:
            kept.append(difference)
        matching += 1
    return Look(kept, matching, dict(sorted(node_types.items())), comparison.counts)


# -- files --------------------------------------------------------------------------------------------------


def json_of(pair: Pair, comparison: Comparison, wanted: Wanted | None = None) -> Iterator[str]:
    """One object on one line, made piece by piece as the differences come: they may be many."""
    head = {
        "old": _run(pair.old),
        "new": _run(pair.new),
        "same_document": pair.same_document,
        "same_reader": pair.same_reader,
    }
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "differences": ['
    separator = ""
    for difference in _wanted(comparison, wanted):
        yield separator + json.dumps(_as_object(difference), ensure_ascii=False)
        separator = ", "
    tail = {"counts": asdict(comparison.counts), "equal": comparison.counts.equal}
    yield "], " + json.dumps(tail)[1:] + "\n"


def csv_of(_pair: Pair, comparison: Comparison, wanted: Wanted | None = None) -> Iterator[str]:
    """A line per value that differs."""
    yield _line(CSV_COLUMNS)
    for difference in _wanted(comparison, wanted):
        head = (difference.kind.value, difference.section_path, difference.node_type)
        for change in difference.values:
            states = (*_cells(change.old), *_cells(change.new))
            yield _line([safe_cell(cell) for cell in (*head, change.kind, change.name, change.path, *states)])


Format = Callable[[Pair, Comparison, Wanted | None], Iterator[str]]
FORMATS: Final[Mapping[str, Format]] = {"json": json_of, "csv": csv_of}


def _wanted(comparison: Comparison, wanted: Wanted | None) -> Iterator[Difference]:
    return (difference for difference in comparison.differences() if wanted is None or wanted.includes(difference))


def _cells(state: State | None) -> tuple[object, object]:
    return ("", "") if state is None else (state.value, state.grounded)


def _line(cells: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()


def _run(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "file": run.source.get("name"),
        "provider": run.provider,
        "model": run.model,
    }


def _as_object(difference: Difference) -> dict[str, Any]:
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
