"""The report of a run as its rows are now, whoever works on it."""

from __future__ import annotations

from thresher.engine.ports import Store
from thresher.engine.work import JsonObject, Run, RunReport


def report_of(store: Store, run: Run) -> RunReport:
    """What the rows of a run say of it."""
    totals = store.totals(run.run_id)
    earlier = (run.report or {}).get("peak_concurrency", 0)
    return RunReport(
        run_id=run.run_id,
        status=run.status,
        mode=run.mode,
        mode_reason=run.mode_reason,
        counts=store.counts(run.run_id),
        usage=totals.usage,
        elapsed_seconds=run.elapsed_seconds,
        item_seconds_sum=totals.item_seconds,
        peak_concurrency=earlier if isinstance(earlier, int) else 0,
        errors=totals.errors,
        error=run.error,
        fallbacks=run.fallbacks,
    )


def failure_of(error: BaseException) -> JsonObject:
    """An error that ended a run as a whole, as it is kept."""
    return {"class": type(error).__name__, "message": str(error)}
