"""Events of a run as the engine tells them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from thresher.engine.progress import ItemFinished, RunFinished, RunStarted, Snapshot
from thresher.engine.work import Counts, ItemStatus, Mode, Run, RunReport, RunStatus, Usage

BEGAN = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)


def a_run(**more: Any) -> Run:
    fields: dict[str, Any] = dict.fromkeys(Run.__slots__)
    fields |= {"run_id": "r1", "kind": "discovery", "status": RunStatus.RUNNING, "mode": Mode.PARALLEL}
    fields |= {"mode_reason": "asked for", "provider": "openai", "model": "m", "source": {}, "options": {}}
    return Run(**(fields | more))


def snapshot(pending: int) -> Snapshot:
    return Snapshot(Counts(pending=pending), planning_complete=True)


def started(pending: int = 3) -> RunStarted:
    return RunStarted(a_run(), Mode.PARALLEL, 4, resumed=False, snapshot=snapshot(pending))


def item(status: ItemStatus, error: str | None = None, **more: Any) -> ItemFinished:
    fields: dict[str, Any] = {
        "run_id": "r1", "key": "/a/b[1]", "status": status, "duration": 2.0, "error_class": error,
        "error_message": "Erika Mustermann" if error else None, "result": {"facts": 2} if error is None else None,
        "snapshot": snapshot(2), "item": 7, "attempt": 1, "stage": "subtree", "started_at": BEGAN,
        "usage": Usage(1, 100, 20, 50, 0.25),
    }  # fmt: skip
    return ItemFinished(**(fields | more))


def finished(status: RunStatus = RunStatus.SUCCEEDED) -> RunFinished:
    counts = Counts(succeeded=2, dead=1)
    return RunFinished(RunReport("r1", status, Mode.PARALLEL, "", counts, Usage(), 3.0, 6.0, 2, {}))
