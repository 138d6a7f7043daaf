"""Exports the facts of a run, streamed, in document order."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from thresher.bootstrap import make_store, open_database
from thresher.cli.failures import say
from thresher.cli.files import written_whole
from thresher.core.config import Settings
from thresher.engine.work import Run, RunStatus
from thresher.persistence.repositories.node_facts import stream_facts
from thresher.workflows.discovery.spreadsheet_cells import safe_cell

Row = Mapping[str, Any]
Writer = Callable[[Iterable[Row], TextIO], None]

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


@dataclass(frozen=True, slots=True)
class Selection:
    """Which facts of which run."""

    run: str
    node_type: str | None = None
    include_ungrounded: bool = False


def export(settings: Settings, selection: Selection, output_format: str, output: Path | None) -> None:
    """Writes the selected facts to a file (whole or not at all) or to stdout.

    Raises:
        NotFound: no such run.
    """
    with open_database(settings) as db:
        run = make_store(settings, db).find_run(selection.run)
        rows = stream_facts(
            db, run.run_id, node_type=selection.node_type, include_ungrounded=selection.include_ungrounded
        )
        with _destination(output) as stream:
            WRITERS[output_format](rows, stream)
        note_if_unfinished(run)


def note_if_unfinished(run: Run) -> None:
    """Says on stderr that a run may yield more facts."""
    if run.status not in (RunStatus.SUCCEEDED, RunStatus.CANCELLED):
        say(f"Note: run {run.run_id} is {run.status}: these are the facts so far.")


@contextmanager
def _destination(output: Path | None) -> Iterator[TextIO]:
    """Stdout, or a file that appears under its name only when it is complete; UTF-8 either way."""
    if output is None:
        stream = TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="", write_through=False)
        yield stream
        stream.flush()
        stream.detach()
        return
    with written_whole(output) as binary:
        stream = TextIOWrapper(binary, encoding="utf-8", newline="")
        yield stream
        stream.flush()
        stream.detach()


def _write_jsonl(rows: Iterable[Row], stream: TextIO) -> None:
    stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_json(rows: Iterable[Row], stream: TextIO) -> None:
    separator = "[\n"
    for row in rows:
        stream.write(separator + json.dumps(row, ensure_ascii=False))
        separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_csv(rows: Iterable[Row], stream: TextIO) -> None:
    """A line per value; ``kind`` tells fields from references."""
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        head = [safe_cell(row[column]) for column in CSV_COLUMNS[:7]]
        for kind, values in (("field", row["fields"]), ("reference", row["references"])):
            for value in values:
                cells = (kind, value["name"], value["value"], value["path"], value["grounded"])
                writer.writerow([*head, *(safe_cell(cell) for cell in cells)])


WRITERS: dict[str, Writer] = {"jsonl": _write_jsonl, "json": _write_json, "csv": _write_csv}
