"""The course of a run, as log lines."""

from __future__ import annotations

from thresher.core.logging import DEBUG, get_logger, is_logged
from thresher.engine.progress import Event, ItemFinished, ItemsPlanned, RunFinished, RunStarted, RunStopping
from thresher.engine.work import ItemStatus, Run, RunReport

log = get_logger(__name__)


class RunLog:
    """Writes a line when a run begins, is planned, stops and ends, and one per item at debug (a progress listener)."""

    def __call__(self, event: Event) -> None:
        """Writes what is to be said of an event."""
        match event:
            case RunStarted():
                _say_start(event, event.run)
            case ItemsPlanned():
                if event.snapshot.planning_complete:
                    log.info("run planned", items=event.snapshot.counts.total)
            case ItemFinished():
                if is_logged(DEBUG) and event.status is not ItemStatus.PENDING:
                    _say_item(event)
            case RunStopping():
                log.info("run stopping", in_hand=event.in_hand, request=str(event.request) if event.request else None)
            case RunFinished():
                _say_end(event.report)


def _say_start(event: RunStarted, run: Run) -> None:
    log.info(
        "run resumed" if event.resumed else "run started",
        kind=run.kind,
        mode=str(event.mode),
        mode_reason=run.mode_reason,
        workers=event.workers,
        provider=run.provider,
        model=run.model,
        items_open=event.snapshot.counts.open,
    )


def _say_item(event: ItemFinished) -> None:
    log.debug(
        "item finished",
        status=str(event.status),
        stage=event.stage,
        ms=round(event.duration * 1000),
        requests=event.usage.requests,
        cache_hits=event.usage.cache_hits,
        tokens=event.usage.prompt_tokens + event.usage.completion_tokens,
    )


def _say_end(report: RunReport) -> None:
    """One line that says what became of the run; whoever started it is told in a sentence of his own."""
    counts, usage = report.counts, report.usage
    log.info(
        "run finished",
        status=str(report.status),
        items=counts.total,
        succeeded=counts.succeeded,
        skipped=counts.skipped,
        dead=counts.dead,
        cancelled=counts.cancelled,
        open=counts.open,
        seconds=round(report.elapsed_seconds, 3),
        speedup=round(report.speedup, 2),
        peak_concurrency=report.peak_concurrency,
        requests=usage.requests,
        cache_hits=usage.cache_hits,
        tokens=usage.prompt_tokens + usage.completion_tokens,
        cost_usd=usage.cost_usd,
        failed_attempts=dict(report.errors),
        error=str(report.error["class"]) if report.error else None,
    )
