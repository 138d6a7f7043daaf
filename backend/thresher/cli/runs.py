"""Lists runs and shows one."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from thresher.bootstrap import open_discovery
from thresher.cli.costs import costs_of, print_costs
from thresher.cli.summary import print_summary
from thresher.core.config import Settings
from thresher.engine.reports import report_of
from thresher.engine.work import Counts, Priority, Run
from thresher.operations.formats import duration
from thresher.workflows.discovery.report import result_of


def list_runs(settings: Settings, limit: int, *, as_json: bool) -> None:
    """The newest runs, a line each."""
    with open_discovery(settings) as discovery:
        rows = [_row(run, discovery.store.counts(run.run_id)) for run in discovery.store.list_runs(limit=limit)]
    if as_json:
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False)
    if not rows:
        console.print("No runs yet: `thresher discover FILE` makes one.", markup=False)
        return
    console.print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    has_priorities = any(row["priority"] != Priority.NORMAL.label for row in rows)
    columns = (
        "run",
        "status",
        *(("priority",) if has_priorities else ()),
        "file",
        "reader",
        "nodes",
        "time",
        "started",
    )
    for column in columns:
        table.add_column(column, no_wrap=column in ("run", "status", "nodes"))
    for row in rows:
        done = f"{row['nodes_done']}/{row['nodes_total']}"
        reader = row["provider"] if row["provider"] == row["model"] else f"{row['provider']} {row['model']}"
        started = (row["started_at"] or "").replace("T", " ")[:16]
        shown = row | {
            "run": row["run_id"],
            "status": _status(row),
            "reader": reader,
            "nodes": done,
            "time": duration(row["elapsed_seconds"]),
            "started": started,
        }
        table.add_row(*(str(shown[column]) for column in columns))
    return table


def _status(row: dict[str, Any]) -> str:
    """A run that is still doing what it was asked for says so."""
    return f"{row['status']} ({row['requested']})" if row["requested"] and row["status"] == "running" else row["status"]


def _row(run: Run, counts: Counts) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "kind": run.kind,
        "status": run.status.value,
        "requested": run.requested.value if run.requested else None,
        "priority": run.priority.label,
        "file": run.source.get("name"),
        "provider": run.provider,
        "model": run.model,
        "mode": run.mode.value,
        "nodes_total": counts.total,
        "nodes_done": counts.finished,
        "nodes_failed": counts.dead,
        "nodes_cancelled": counts.cancelled,
        "elapsed_seconds": round(run.elapsed_seconds, 3),
        "created_at": run.created_at.isoformat(),
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "error": run.error,
    }


def show_run(settings: Settings, run_id: str, *, as_json: bool) -> None:
    """One run, as its rows say it is now."""
    with open_discovery(settings) as discovery:
        run = discovery.store.find_run(run_id)
        result = result_of(discovery.store, discovery.db, report_of(discovery.store, run))
        result["costs"] = costs_of(discovery.db, run)
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False)
    if result["requests"] or result["cache_hits"]:
        print_costs(result["costs"], console)
    print_summary(result, console)
