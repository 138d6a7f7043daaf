"""What a discovery came to, as one JSON-able object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thresher.engine.budget import Budget
from thresher.engine.ports import Store
from thresher.engine.work import JsonValue, Run, RunReport, Usage
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.node_facts import FactCounts, fact_counts
from thresher.persistence.repositories.statistics import error_summary, stage_counts
from thresher.workflows.discovery.discovery_workflow import WHOLE


def result_of(store: Store, db: ThreadSafeDatabaseManager, report: RunReport) -> dict[str, Any]:
    """The result object of a run, from its rows; see ``summarize``.

    Raises:
        NotFound: no such run.
    """
    run = store.get_run(report.run_id)
    matched = stage_counts(db, run.run_id).get(WHOLE, 0)
    errors = error_summary(db, run.run_id)
    if report.error is not None:
        errors.insert(0, {"class": report.error["class"], "count": 1, "message": report.error["message"]})
    return summarize(run, report, fact_counts(db, run.run_id), matched, errors)


def summarize(
    run: Run, report: RunReport, facts: FactCounts, subtrees_matched: int, errors: Sequence[JsonValue]
) -> dict[str, Any]:
    """The result of ``thresher discover --json``.

    ``cache_hits`` are answers that were not asked for again. ``tokens`` are prompt plus
    completion tokens of all attempts, ``cost_usd`` is null where a price is unknown, ``speedup`` is measured.
    """
    counts, usage = report.counts, report.usage
    return {
        "run_id": run.run_id,
        "file": run.source.get("name"),
        "status": report.status.value,
        "mode": report.mode.value,
        "mode_reason": report.mode_reason,
        "fallbacks": [
            {"from": str(some.before), "to": str(some.after), "reason": some.reason, "nodes": some.items}
            for some in report.fallbacks
        ],
        "provider": run.provider,
        "model": run.model,
        "spec_version": run.details.get("spec_version"),
        "message_root": run.details.get("message_root"),
        "sender": run.details.get("sender"),
        "paths": run.options.get("paths"),
        "limit": run.options.get("limit"),
        "priority": run.priority.label,
        "subtrees_matched": subtrees_matched,
        "nodes_total": counts.total,
        "subtrees_processed": counts.succeeded,
        "nodes_skipped": counts.skipped,
        "nodes_failed": counts.dead,
        "nodes_cancelled": counts.cancelled,
        "nodes_open": counts.open,
        "node_facts_extracted": facts.facts,
        "fields_total": facts.fields_total,
        "fields_grounded": facts.fields_grounded,
        "elapsed_seconds": round(report.elapsed_seconds, 3),
        "item_seconds_sum": round(report.item_seconds_sum, 3),
        "speedup": round(report.speedup, 2),
        "peak_concurrency": report.peak_concurrency,
        "requests": usage.requests,
        "cache_hits": usage.cache_hits,
        "tokens": usage.prompt_tokens + usage.completion_tokens,
        "cost_usd": None if usage.cost_usd is None else round(usage.cost_usd, 6),
        **_budget(run.budget, usage),
        "errors": list(errors),
    }


def _budget(budget: Budget | None, usage: Usage) -> dict[str, Any]:
    """``budget`` and, in its unit, ``spent`` and ``spent_at_most``; all null without a budget."""
    if budget is None:
        return {"budget": None, "spent": None, "spent_at_most": None}
    amounts = {"spent": usage.spent, "spent_at_most": usage.spent_at_most}
    spent = {name: budget.spent_of(amount) for name, amount in amounts.items()}
    return {
        "budget": {"amount": float(budget.amount), "unit": budget.unit.value},
        **{name: None if amount is None else round(amount, 6) for name, amount in spent.items()},
    }
