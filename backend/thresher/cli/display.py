"""Live progress on stderr: a bar and a line below it on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from thresher.cli.failures import say
from thresher.engine.progress import (
    Event,
    FellBack,
    ItemFinished,
    ItemsPlanned,
    RunFinished,
    RunStarted,
    RunStopping,
    Snapshot,
)
from thresher.operations.formats import duration, fallback_line

BAR_INTERVAL = 0.1  # seconds between two changes of the bar
LINE_INTERVAL = 5.0  # seconds between two lines where there is no terminal


class _Bar(Progress):
    """A bar with a line of its own for everything else: on a narrow terminal neither pushes the other out."""

    def __init__(self, description: str, console: Console) -> None:
        self._below = Text(no_wrap=True, overflow="ellipsis", style="dim")
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn())
        super().__init__(*columns, TimeElapsedColumn(), console=console, transient=True, expand=True)
        self._only = self.add_task(description, total=None)

    def show(self, description: str, below: str, finished: int, total: int) -> None:
        """Moves the bar; ``finished`` and ``total`` count nodes."""
        self._below.plain = below
        self.update(self._only, description=description, completed=finished, total=total)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and the line below it once there is something to say."""
        yield from super().get_renderables()
        if self._below.plain:
            yield self._below


class ProgressDisplay:
    """Listens to a run and shows it. Use as a context manager."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._facts = 0
        self._shown = time.monotonic()
        self._interval = LINE_INTERVAL
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = _Bar(f"Reading {self._name}", console)
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
        if isinstance(event, RunStarted):
            verb = "Resuming" if event.resumed else "Starting"
            where = f"{event.workers} nodes at once" if event.workers > 1 else "one node after the other"
            self._say(f"{verb} run {event.run.run_id} on {self._name}: {event.mode}, {where} ({event.run.mode_reason})")
        elif isinstance(event, ItemFinished):
            result = event.result if isinstance(event.result, dict) else {}
            self._facts += result.get("facts", 0)
            self._show(event.snapshot)
        elif isinstance(event, ItemsPlanned):
            self._show(event.snapshot, at_once=self._bar is not None)
        elif isinstance(event, FellBack):
            self._say(f"Note: {fallback_line(event.fallback)}")
        elif isinstance(event, RunStopping):
            self._say_stopping(event)
        elif isinstance(event, RunFinished) and self._bar is None:
            counts = event.report.counts
            self._say(f"{event.report.status}: {counts.finished:,} of {counts.total:,} nodes, {self._facts:,} facts.")

    def observe(self, snapshot: Snapshot, facts: int) -> None:
        """Shows the state of a run that another process works on."""
        self._facts = facts
        self._show(snapshot, at_once=self._bar is not None)

    def _say_stopping(self, event: RunStopping) -> None:
        asked = f"Asked to {event.request}. " if event.request else ""  # else who stopped it says why
        finishing = f"Finishing {event.in_hand} nodes in hand." if event.in_hand else ""
        if asked or finishing:
            self._say(asked + finishing)

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            say(line)

    def _show(self, snapshot: Snapshot, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if now - self._shown < self._interval and not at_once:
            return
        self._shown = now
        counts = snapshot.counts
        total = f"{counts.total:,}" if snapshot.planning_complete else f"{counts.total:,}+"
        head = f"Processing node {counts.finished:,} of {total}"
        rest = _rest(snapshot, self._facts)
        if self._bar is None:
            say(f"{head}, {rest}")
        else:
            self._bar.show(head, rest, counts.finished, counts.total)


def _rest(snapshot: Snapshot, facts: int) -> str:
    """Rate, time left, facts and failed attempts by class in a line."""
    parts = [f"{snapshot.rate:.1f} nodes/s", f"{facts:,} facts"]
    if snapshot.eta_seconds is not None and snapshot.planning_complete:
        parts.insert(1, f"about {duration(snapshot.eta_seconds)} left")
    if snapshot.errors:
        parts.append("failed tries: " + ", ".join(f"{count:,} {name}" for name, count in snapshot.errors.items()))
    return ", ".join(parts)
