"""Watches a run that another process works on, by its rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from thresher.engine.progress import Snapshot
from thresher.engine.reports import report_of
from thresher.engine.work import Run
from thresher.operations.looks import Look, Looks
from thresher.workflows.discovery.report import result_of

Show = Callable[[Look], None]


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
    looks = Looks(discovery.store, discovery.db, run_id)
    yield looks.look()
    while not control.stopping.is_set():
        control.wait(looks.pause)
        yield looks.look()


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
