"""Live progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from thresher.cli.failures import say
from thresher.engine.progress import (
    Event,
    ItemFinished,
    ItemsPlanned,
    RunFinished,
    RunStarted,
    RunStopping,
    Snapshot,
)

BAR_INTERVAL = 0.1  # seconds between two changes of the bar
LINE_INTERVAL = 5.0  # seconds between two lines where there is no terminal


class ProgressDisplay:
    """Listens to a run and shows it. Use as a context manager; quiet displays show nothing."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = name
        self._quiet = quiet
        self._facts = 0
        self._shown = time.monotonic()
        self._interval = LINE_INTERVAL
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        if console.is_terminal and not self._quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rest]}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
            self._task = self._bar.add_task(f"Reading {self._name}", total=None, rest="")
            self._interval = BAR_INTERVAL
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Shows an event (the listener of a run)."""
        if self._quiet:
            return
        if isinstance(event, RunStarted):
            verb = "Resuming" if event.resumed else "Starting"
            where = f"{event.workers} at once" if event.workers > 1 else "one after the other"
            self._say(f"{verb} run {event.run.run_id} on {self._name}: {event.mode}, {where} ({event.run.mode_reason})")
        elif isinstance(event, ItemFinished):
            result = event.result if isinstance(event.result, dict) else {}
            self._facts += result.get("facts", 0)
            self._show(event.snapshot)
        elif isinstance(event, ItemsPlanned):
            self._show(event.snapshot)
        elif isinstance(event, RunStopping):
            if event.in_hand:  # why it stops is said by who stopped it
                self._say(f"Finishing {event.in_hand} nodes in hand.")
        elif isinstance(event, RunFinished) and self._bar is None:
            counts = event.report.counts
            self._say(f"{event.report.status}: {counts.finished} of {counts.total} nodes, {self._facts} facts.")

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            say(line)

    def _show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now - self._shown < self._interval:
            return
        self._shown = now
        counts = snapshot.counts
        total = f"{counts.total}" if snapshot.planning_complete else f"{counts.total}+"
        head = f"Processing node {counts.finished} of {total}"
        rest = _rest(snapshot, self._facts)
        if self._bar is None:
            say(f"{head}, {rest}")
        else:
            self._bar.update(self._task, description=head, completed=counts.finished, total=counts.total, rest=rest)


def _rest(snapshot: Snapshot, facts: int) -> str:
    """Rate, time left, facts and errors by class in a line."""
    parts = [f"{snapshot.rate:.1f}/s"]
    if snapshot.eta_seconds is not None and snapshot.planning_complete:
        parts.append(f"{duration(snapshot.eta_seconds)} left")
    parts.append(f"{facts} facts")
    parts.extend(f"{count} {name}" for name, count in snapshot.errors.items())
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``42 s``, ``3:05 min``, ``2:07 h``."""
    if seconds < 9.95:  # tenths matter below; what rounds to 10 does not
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:  # a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"
