"""The commands on the answers that are kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from thresher.bootstrap import open_database
from thresher.cli.failures import say
from thresher.core.config import Settings
from thresher.persistence.repositories.cached_answers import CacheFigures, cache_figures, clear_answers

_MEGABYTE = 1024**2


def stats(settings: Settings, *, as_json: bool) -> None:
    """What is kept and what it saved: in all, and by provider and model."""
    with open_database(settings) as db:
        by_model = cache_figures(db)
    shown = _shown(settings, by_model)
    if as_json:
        sys.stdout.write(json.dumps(shown, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False)
    console.print(_headline(shown), markup=False)
    if by_model:
        console.print(_table(shown))


def clear(settings: Settings, model: str | None, older_than: int | None) -> None:
    """Deletes kept answers and says how many."""
    age = None if older_than is None else timedelta(days=older_than)
    with open_database(settings) as db:
        answers, freed = clear_answers(db, model, age)
    say(f"{answers:,} answers deleted ({_megabytes(freed)}). The facts of runs are as they were.")


def _shown(settings: Settings, by_model: Mapping[tuple[str, str], CacheFigures]) -> dict[str, Any]:
    models = [
        {"provider": provider, "model": model, **_figures([figures])} for (provider, model), figures in by_model.items()
    ]
    limits = {"enabled": settings.cache_answers, "max_bytes": settings.cache_max_mb * _MEGABYTE}
    return {**limits, **_figures(list(by_model.values())), "models": models}


def _figures(figures: list[CacheFigures]) -> dict[str, Any]:
    """Sums; a cost is unknown where one of them is."""
    costs = [one.cost_saved_usd for one in figures]
    known = [cost for cost in costs if cost is not None]
    return {
        "answers": sum(one.answers for one in figures),
        "bytes": sum(one.size_bytes for one in figures),
        "hits": sum(one.hits for one in figures),
        "tokens_saved": sum(one.tokens_saved for one in figures),
        "cost_saved_usd": round(sum(known), 6) if len(known) == len(costs) else None,
        "oldest": _iso(min((one.oldest for one in figures if one.oldest), default=None)),
        "newest": _iso(max((one.newest for one in figures if one.newest), default=None)),
    }


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time is not None else None


def _headline(shown: Mapping[str, Any]) -> str:
    if not shown["answers"]:
        state = "No answers are kept yet" if shown["enabled"] else "No answers are kept (CACHE_ANSWERS is false)"
        return f"{state}: a run with a model keeps its answers, and the next one does not pay for them again."
    kept = f"{shown['answers']:,} answers in {_megabytes(shown['bytes'])} of {_megabytes(shown['max_bytes'])}"
    return f"{kept}; used {shown['hits']:,} times instead of a request: {_saved(shown)} saved."


def _saved(figures: Mapping[str, Any]) -> str:
    cost = figures["cost_saved_usd"]
    return f"{figures['tokens_saved']:,} tokens, " + ("cost unknown" if cost is None else f"{cost:.4f} USD")


def _table(shown: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("provider", "model", "answers", "size", "hits", "saved", "oldest", "newest"):
        table.add_column(column, justify="right" if column in {"answers", "size", "hits"} else "left")
    for row in shown["models"]:
        counted = (f"{row['answers']:,}", _megabytes(row["bytes"]), f"{row['hits']:,}")
        days = (row["oldest"][:10], row["newest"][:10])
        table.add_row(row["provider"], row["model"], *counted, _saved(row), *days)
    return table


def _megabytes(count: int) -> str:
    return f"{count / _MEGABYTE:,.1f} MB"
