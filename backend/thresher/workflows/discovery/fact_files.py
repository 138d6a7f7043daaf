"""Facts as files: JSON Lines, JSON and CSV, made piece by piece so that any number of facts takes the same memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from thresher.workflows.discovery.spreadsheet_cells import safe_cell

Row = Mapping[str, Any]
Format = Callable[[Iterable[Row]], Iterator[str]]

CSV_COLUMNS = (
    "run_id",
    "section_path",
    "node_type",
    "node_ordinal",
    "extractor",
    "confidence",
    "pii_masked",
    "kind",
    "name",
    "value",
    "path",
    "grounded",
)


def as_jsonl(rows: Iterable[Row]) -> Iterator[str]:
    """A line per fact."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_json(rows: Iterable[Row]) -> Iterator[str]:
    """One list of all facts, a line each."""
    separator = "[\n"
    for row in rows:
        yield separator + json.dumps(row, ensure_ascii=False)
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def as_csv(rows: Iterable[Row], before: Sequence[str] = ()) -> Iterator[str]:
    """A line per value; ``kind`` tells fields from references. ``before``: columns in front of all others."""
    yield _line((*before, *CSV_COLUMNS))
    for row in rows:
        head = [safe_cell(row[column]) for column in (*before, *CSV_COLUMNS[:7])]
        lines = [
            _line([*head, *(safe_cell(cell) for cell in (kind, *(value[key] for key in CSV_COLUMNS[8:])))])
            for kind, values in (("field", row["fields"]), ("reference", row["references"]))
            for value in values
        ]
        yield "".join(lines)


def _line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()


FORMATS: Final[Mapping[str, Format]] = {"jsonl": as_jsonl, "json": as_json, "csv": as_csv}
MEDIA_TYPES: Final = {"jsonl": "application/jsonl", "json": "application/json", "csv": "text/csv; charset=utf-8"}
