"""Exports the facts of a run, streamed, in document order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from thresher.bootstrap import make_store, open_database
from thresher.cli.failures import say
from thresher.cli.files import written_whole
from thresher.core.config import Settings
from thresher.engine.work import Run, RunStatus
from thresher.persistence.repositories.node_facts import FactFilter, Grounding, stream_facts
from thresher.workflows.discovery.fact_files import FORMATS


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
        grounding = Grounding.ALL if selection.include_ungrounded else Grounding.PROVED
        rows = stream_facts(db, run.run_id, FactFilter(selection.node_type, grounding=grounding))
        with _destination(output) as stream:
            stream.writelines(FORMATS[output_format](rows))
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
