"""``thresher discover --dry-run``: what it would take, before anything is sent or stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from thresher.bootstrap import Rehearsal, make_limits, open_rehearsal
from thresher.cli.discover import Wanted
from thresher.cli.summary import print_line, short_place
from thresher.core.config import Settings
from thresher.engine.budget import Budget, Unit, dollars
from thresher.engine.work import Mode
from thresher.operations.budgets import check_price
from thresher.operations.formats import duration, size
from thresher.workflows.discovery import DiscoveryRequest, DiscoveryWorkflow, load_configurations
from thresher.workflows.discovery.estimate import BYTES_PER_TOKEN, Estimate, Range


def print_estimates(settings: Settings, wanted: Wanted, *, as_json: bool) -> None:
    """One estimate for each file.

    Raises:
        BadInput: a document cannot be used.
    """
    nodes = load_configurations(wanted.config) if wanted.config is not None else ()
    console = Console(highlight=False)
    with open_rehearsal(settings) as rehearsal:
        check_price(rehearsal.client, wanted.budget)
        request = DiscoveryRequest(Path(), wanted.paths, nodes, make_limits(rehearsal.settings), limit=wanted.limit)
        wish = wanted.mode.wish(rehearsal.settings)
        workers = 1 if wish.mode is Mode.SEQUENTIAL else rehearsal.settings.max_parallel_nodes
        for file in wanted.files:
            new = DiscoveryWorkflow.prepare(replace(request, path=file), wish.at_first, wish.reason)
            shown = _shown(rehearsal, file, rehearsal.estimate(new, wish), wanted.budget)
            if as_json:
                sys.stdout.write(json.dumps(shown, ensure_ascii=False) + "\n")
                continue
            for label, value in _lines(shown, workers):
                print_line(label, "bold", value, console)


def _shown(rehearsal: Rehearsal, file: Path, made: Estimate, budget: Budget | None) -> dict[str, Any]:
    found = made.to_dict()
    largest = found.pop("largest")
    return {
        "dry_run": True,
        "file": file.name,
        "provider": rehearsal.client.provider,
        "model": rehearsal.client.model,
        **found,
        "budget": None if budget is None else {"amount": float(budget.amount), "unit": budget.unit.value},
        "largest": largest,
    }


def _lines(shown: Mapping[str, Any], workers: int) -> Iterator[tuple[str, str]]:
    reader = shown["provider"] if shown["provider"] == shown["model"] else f"{shown['provider']} {shown['model']}"
    yield "dry run", f"{shown['file']}, read by {reader}: nothing was sent, nothing was stored"
    yield "nodes", _nodes(shown)
    if not shown["nodes_asked"]:
        yield "cost", "nothing: there is nothing to ask a model"
        return
    yield "requests", _range(shown["requests"])
    prompt, answer = _range(shown["prompt_tokens"]), _range(shown["completion_tokens"])
    yield "tokens", f"prompts {prompt}; answers {answer}"
    yield "cost", _cost(shown["cost_usd"])
    if shown["budget"] is not None:
        yield "budget", _budget(shown)
    yield "time", _time(shown["seconds"], workers)
    yield "basis", _basis(shown["learned_from_nodes"])
    largest = ", ".join(f"{short_place(entry['node'])} {size(entry['prompt_bytes'])}" for entry in shown["largest"])
    yield "largest", f"prompts of {largest}"


def _nodes(shown: Mapping[str, Any]) -> str:
    beside = {
        "nodes_skipped": "skipped",
        "nodes_without_text": "without anything to read",
        "nodes_cached": "answered by the cache",
        "nodes_repeated": "equal to others",
    }
    parts = [f"{shown['nodes_asked']:,} of {shown['nodes_total']:,} to be asked about"]
    return ", ".join([*parts, *(f"{shown[key]:,} {words}" for key, words in beside.items() if shown[key])])


def _range(found: Mapping[str, float]) -> str:
    if found["low"] == found["high"]:
        return f"{found['expected']:,.0f}"
    return f"about {found['expected']:,.0f} ({found['low']:,.0f} to {found['high']:,.0f})"


def _cost(cost: Mapping[str, float] | None) -> str:
    if cost is None:
        return "unknown (no price for this model; see PRICES_FILE)"
    if not cost["high"]:
        return "nothing: this model is free"
    return f"about {dollars(cost['expected'])} USD ({dollars(cost['low'])} to {dollars(cost['high'])})"


def _budget(shown: Mapping[str, Any]) -> str:
    budget = shown["budget"]
    amount, unit = budget["amount"], budget["unit"]
    found: Mapping[str, float] = shown["cost_usd"] or {}
    if unit == Unit.TOKENS:
        both = [Range(**shown[key]) for key in ("prompt_tokens", "completion_tokens")]
        found = (both[0] + both[1]).to_dict()
    verdict = "may be enough"
    if amount >= found["high"]:
        verdict = "will be enough"
    elif amount < found["low"]:
        verdict = "will not be enough: the run will pause when it is used up"
    given = f"{amount:,.0f} tokens" if unit == Unit.TOKENS else f"{dollars(amount)} USD"
    return f"{given} {verdict}"


def _time(seconds: Mapping[str, float] | None, workers: int) -> str:
    if seconds is None:
        return f"unknown, with {workers} nodes at once: no earlier run of this model in this database, no limit is set"
    if seconds["low"] == seconds["high"]:
        return f"at least {duration(seconds['low'])}, by the limits that are set"
    between = f"{duration(seconds['low'])} to {duration(seconds['high'])}"
    return f"about {duration(seconds['expected'])} ({between}), with {workers} nodes at once"


def _basis(nodes: int) -> str:
    if nodes:
        return f"what this model took for {nodes:,} nodes of earlier runs"
    return f"{BYTES_PER_TOKEN[1]} bytes per token, answers like the structural reading's; better after a first run"
