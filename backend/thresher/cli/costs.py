"""What a run has cost, for ``thresher show``: in all, by path, by fact; for tries that failed; saved by the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thresher.engine.budget import dollars
from thresher.engine.work import Run
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.costs import PathCosts, costs_by_path, mean_cached_answer

_COLUMNS = ("path", "nodes", "facts", "requests", "tokens", "USD", "USD/fact", "of which for failed tries")


def costs_of(db: ThreadSafeDatabaseManager, run: Run) -> dict[str, Any]:
    """The key ``costs`` of ``thresher show --json``; what the cache saved is taken from the mean of its answers."""
    paths = costs_by_path(db, run.run_id)
    hits = sum(path.cached_answers for path in paths)
    mean = mean_cached_answer(db, run.provider or "", run.model or "") if hits else None
    facts, cost = sum(path.facts for path in paths), _sum(path.cost_usd for path in paths)
    return {
        "cost_per_fact_usd": _rounded(cost / facts) if cost is not None and facts else None,
        "failed_requests": sum(path.failed_requests for path in paths),
        "failed_tokens": sum(path.failed_tokens for path in paths),
        "failed_cost_usd": _rounded(_sum(path.failed_cost_usd for path in paths)),
        "cached_answers": hits,
        "saved_tokens": round(hits * mean[0]) if mean is not None else 0,
        "saved_cost_usd": _rounded(hits * mean[1]) if mean is not None and mean[1] is not None else None,
        "by_path": [_shown(path) for path in paths],
    }


def print_costs(costs: Mapping[str, Any], console: Console) -> None:
    """A line for each path, and what failed tries took and the cache saved."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "path" else "right", overflow="fold")
    for path in costs["by_path"]:
        table.add_row(*(Text(cell) for cell in _cells(path)))
    console.print(table)
    if costs["cached_answers"]:
        saved = f"{costs['saved_tokens']:,} tokens, {_usd(costs['saved_cost_usd'])} USD"
        console.print(f"{costs['cached_answers']:,} answers came from the cache and saved about {saved}.", markup=False)
    console.print()


def _shown(path: PathCosts) -> dict[str, Any]:
    shown = asdict(path) | {"cost_per_fact_usd": path.cost_per_fact_usd}
    return {key: _rounded(value) if isinstance(value, float) else value for key, value in shown.items()}


def _cells(path: Mapping[str, Any]) -> Sequence[str]:
    counts = (f"{path[key]:,}" for key in ("nodes", "facts", "requests", "tokens"))
    failed = "-"
    if path["failed_requests"]:
        failed = f"{path['failed_requests']:,} requests, {_usd(path['failed_cost_usd'])}"
    return [path["path"], *counts, _usd(path["cost_usd"]), _usd(path["cost_per_fact_usd"]), failed]


def _usd(amount: float | None) -> str:
    return "-" if amount is None else dollars(amount)


def _sum(costs: Iterable[float | None]) -> float | None:
    """Unknown where one of them is."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 8)
