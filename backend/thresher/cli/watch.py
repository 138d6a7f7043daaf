"""Watches a run that another process works on, by its rows."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from thresher.bootstrap import Discovery, open_discovery
from thresher.cli.discover import exit_code
from thresher.cli.display import ProgressDisplay
from thresher.cli.failures import ExitCode, say
from thresher.cli.summary import print_summary
from thresher.core.config import Settings
from thresher.engine.control import RunControl, stop_on_signals
from thresher.engine.ownership import is_dead
from thresher.engine.progress import Snapshot
from thresher.engine.reports import report_of
from thresher.engine.work import ENDED, Counts, Run, RunStatus, Totals
from thresher.persistence.repositories.node_facts import fact_counts
from thresher.workflows.discovery.report import result_of

LOOK_EVERY = 0.5  # seconds, or so much that looking takes a tenth of the time
RATE_OVER = 30.0  # seconds

Show = Callable[["Look"], None]


@dataclass(frozen=True, slots=True)
class Look:
    """A run as its rows were at one moment. ``is_left``: those who had items in hand have all ended."""

    run: Run
    counts: Counts
    totals: Totals
    facts: int
    is_left: bool
    rate: float  # nodes per second, lately

    @property
    def is_last(self) -> bool:
        """Whether nothing more will come."""
        return self.is_left or self.run.status in ENDED or (self.run.status is RunStatus.PAUSED and self._is_idle)

    @property
    def _is_idle(self) -> bool:
        return self.counts.running == 0

    @property
    def eta_seconds(self) -> float | None:
        """Open nodes at the rate of late; None while none is known."""
        return self.counts.open / self.rate if self.rate > 0 else None


def watch(settings: Settings, run_id: str, *, as_json: bool) -> ExitCode:
    """Shows a run until it ends, pauses or is left by its process; returns its exit code.

    Raises:
        NotFound: no such run.
    """
    with open_discovery(settings) as discovery:
        run = discovery.store.find_run(run_id)
        control = RunControl()  # of the watching; an exception out of a signal may get lost in a finalizer
        with stop_on_signals(control), _shown(run, as_json=as_json) as show:
            look = _follow(_looks(discovery, run.run_id, control), show)
        if control.stopping.is_set() and not look.is_last:
            say(f"Stopped watching; run {run.run_id} is not touched by that.")
            return ExitCode.INTERRUPTED
        if look.is_left:
            hint = f"`thresher resume {run.run_id}` goes on."
            say(f"Nobody works on run {run.run_id}: the process that had its nodes in hand has ended. {hint}")
        if not as_json:
            result = result_of(discovery.store, discovery.db, report_of(discovery.store, look.run))
            print_summary(result, Console(highlight=False))
        return exit_code(look.run.status, look.run.error)


def _follow(looks: Iterator[Look], show: Show) -> Look:
    """Shows one look after the other; returns the last one."""
    look = next(looks)
    show(look)
    while not look.is_last and (later := next(looks, None)) is not None:
        look = later
        show(look)
    return look


def _looks(discovery: Discovery, run_id: str, control: RunControl) -> Iterator[Look]:
    """One look after the other, as long as they are asked for and the watching is not stopped."""
    store, finished = discovery.store, deque[tuple[float, int]]()
    is_first = True
    while is_first or not control.stopping.is_set():
        is_first = False
        began = time.monotonic()
        run = store.get_run(run_id)  # first: what follows is then not older than the state
        leases = store.leases(run_id)
        counts = store.counts(run_id)
        finished.append((began, counts.finished))
        while began - finished[0][0] > RATE_OVER:
            finished.popleft()
        yield Look(
            run=run,
            counts=counts,
            totals=store.totals(run_id),
            facts=fact_counts(discovery.db, run_id).facts,
            is_left=run.status is RunStatus.RUNNING and _are_over(leases),
            rate=_rate(finished),
        )
        control.wait(max(LOOK_EVERY, 9 * (time.monotonic() - began)))


def _are_over(leases: Mapping[str, datetime]) -> bool:
    now = datetime.now(UTC)
    return bool(leases) and all(until <= now or is_dead(owner) for owner, until in leases.items())


def _rate(finished: deque[tuple[float, int]]) -> float:
    (first, before), (last, after) = finished[0], finished[-1]
    return max(after - before, 0) / (last - first) if last > first else 0.0


@contextmanager
def _shown(run: Run, *, as_json: bool) -> Iterator[Show]:
    if as_json:
        yield _Lines()
        return
    name = str(run.source.get("name", run.run_id))
    say(f"Watching run {run.run_id} on {name}: {run.status}. Ctrl-C ends only the watching.")
    with ProgressDisplay(name) as display:
        yield lambda look: display.observe(_snapshot(look), look.facts)


def _snapshot(look: Look) -> Snapshot:
    counts, complete, totals = look.counts, look.run.planning_complete, look.totals
    return Snapshot(counts, complete, totals.usage, totals.errors, look.rate, look.eta_seconds)


class _Lines:
    """One JSON object per change on stdout; that only time has passed is no change."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def __call__(self, look: Look) -> None:
        state = _object(look)
        if state == self._last:
            return
        self._last = state
        eta = None if look.eta_seconds is None else round(look.eta_seconds, 1)
        moment = {"nodes_per_second": round(look.rate, 2), "eta_seconds": eta, "at": datetime.now(UTC).isoformat()}
        sys.stdout.write(json.dumps(state | moment, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def _object(look: Look) -> dict[str, Any]:
    run, counts, usage = look.run, look.counts, look.totals.usage
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "requested": run.requested.value if run.requested else None,
        "planning_complete": run.planning_complete,
        "nodes_total": counts.total,
        "subtrees_processed": counts.succeeded,
        "nodes_skipped": counts.skipped,
        "nodes_failed": counts.dead,
        "nodes_cancelled": counts.cancelled,
        "nodes_open": counts.open,
        "nodes_in_hand": counts.running,
        "node_facts_extracted": look.facts,
        "requests": usage.requests,
        "tokens": usage.prompt_tokens + usage.completion_tokens,
        "cost_usd": None if usage.cost_usd is None else round(usage.cost_usd, 6),
        "failed_tries": dict(look.totals.errors),
    }
