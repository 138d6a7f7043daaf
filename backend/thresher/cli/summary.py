"""The result of a discovery for people: a table of facts and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thresher.core.errors import BudgetExhausted
from thresher.engine.budget import Unit, dollars
from thresher.operations.formats import duration

FACTS_SHOWN = 12
VALUES_SHOWN = 4
MARK = " ✗"  # behind a value that is not proved
LABEL_WIDTH = 9
PLACE_WIDTH = 30


def print_facts(sample: Sequence[Mapping[str, Any]], total: int, console: Console) -> None:
    """Some facts of ``total``, a line each; values that are not proved are marked, without colours too."""
    if not sample:
        return
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("node", no_wrap=True, overflow="ellipsis", max_width=PLACE_WIDTH)
    table.add_column("facts", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("proved", justify="right", no_wrap=True, min_width=6)
    for fact in sample:
        fields = fact["fields"]
        proved = sum(1 for field in fields if field["grounded"])
        style = "green" if proved == len(fields) else "yellow"
        table.add_row(
            Text(short_place(fact["section_path"])), _values(fields), Text(f"{proved}/{len(fields)}", style=style)
        )
    console.print(table)
    if total > len(sample):
        console.print(f"{len(sample)} of {total:,} facts, some of each type.", style="dim", markup=False)


def short_place(path: str) -> str:
    """The end of a path, where a person looks first: ``PaxList/Pax[3]``, or ``…/BaggageAllowance[2]``."""
    _, parent, node = ("/" + path).rsplit("/", 2)
    place = f"{parent.removesuffix('[1]')}/{node}" if parent else node
    return place if len(place) <= PLACE_WIDTH else f"…/{node}"


def _values(fields: Sequence[Mapping[str, Any]]) -> Text:
    """The first values; those that are not proved come before the others."""
    text = Text()
    for field in sorted(fields, key=lambda field: bool(field["grounded"]))[:VALUES_SHOWN]:
        text.append(f"{field['name']}=", style="dim")
        text.append(f"{field['value']}", style="" if field["grounded"] else "yellow")
        text.append("  " if field["grounded"] else f"{MARK}  ", style="bold red")
    if len(fields) > VALUES_SHOWN:
        text.append(f"+{len(fields) - VALUES_SHOWN} more", style="dim")
    return text


def print_summary(result: Mapping[str, Any], console: Console) -> None:
    """What was read, found, proved, paid, and what failed."""
    for label, value in _lines(result):
        print_line(label, "bold", value, console)
    for fallback in result["fallbacks"]:
        print_line("fallback", "bold yellow", _fallback(fallback), console)
    for error in result["errors"]:
        where = f" at {error['where']}" if error.get("where") else ""
        line = f"{error['count']} x {error['class']}{where}: {error['message']}"
        print_line("error", "bold red", line, console)


def print_line(label: str, style: str, value: str, console: Console) -> None:
    """A label and its text: wrapped beside the label on a terminal, one line each in files and pipes."""
    if not console.is_terminal:
        console.print(Text(f"{label:>{LABEL_WIDTH}}  {value}"), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True, min_width=LABEL_WIDTH)
    grid.add_column(overflow="fold")
    grid.add_row(Text(label, style=style), Text(value))
    console.print(grid)


def _lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    what = " ".join(str(result[key]) for key in ("message_root", "spec_version", "sender") if result[key])
    return [
        ("document", f"{result['file']} ({what})" if what else str(result["file"])),
        ("nodes", _nodes(result)),
        ("facts", f"{result['node_facts_extracted']:,} with {result['fields_total']:,} values, {_proved(result)}"),
        ("reader", _reader(result)),
        *_budget(result),
        ("time", _time(result)),
        ("run", _run(result)),
    ]


def _nodes(result: Mapping[str, Any]) -> str:
    parts = [f"{result['subtrees_processed']:,} of {result['nodes_total']:,} processed"]
    if result["nodes_total"] > result["subtrees_matched"]:
        parts.append(f"{result['subtrees_matched']:,} subtrees, the large ones split")
    parts.extend(
        f"{result[key]:,} {word}"
        for key, word in (
            ("nodes_skipped", "skipped"),
            ("nodes_failed", "FAILED"),
            ("nodes_cancelled", "cancelled"),
            ("nodes_open", "still open"),
        )
        if result[key]
    )
    if result.get("limit") is not None:
        parts.append(f"not more than the first {result['limit']:,} subtrees of the document (--limit)")
    return ", ".join(parts)


def _proved(result: Mapping[str, Any]) -> str:
    total, grounded = result["fields_total"], result["fields_grounded"]
    if not total:
        return "nothing to prove"
    if grounded == total:
        return "every one proved by its path in the source"
    share = grounded * 1000 // total / 10  # rounded down: 100 % only where all are
    return f"{grounded:,} proved by their path in the source ({share} %), {total - grounded:,} NOT FOUND there{MARK}"


def _reader(result: Mapping[str, Any]) -> str:
    if result["provider"] == "structural":
        return "structural (no model: texts and attributes as they stand)"
    used = f"{result['requests']:,} requests, {result['tokens']:,} tokens"
    if result["cache_hits"]:
        used += f", {result['cache_hits']:,} answers from the cache"
    return f"{result['provider']} {result['model']}, {used}, {_cost(result['cost_usd'])}"


def _cost(amount: float | None) -> str:
    return "cost unknown (no price for this model; see PRICES_FILE)" if amount is None else f"{dollars(amount)} USD"


def _budget(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The budget of the run and what is spent of it; nothing where there is none."""
    budget, spent = result["budget"], result["spent"]
    if budget is None:
        return []
    at_most = result["spent_at_most"]
    amount, used, bound = (_amount(value, budget["unit"]) for value in (budget["amount"], spent, at_most))
    unsure = f", at most {bound} with requests that were not answered" if at_most != spent else ""
    return [("budget", f"{amount}, of which {used} are spent{unsure}")]


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return f"unknown {unit}"
    return f"{value:,.0f} tokens" if unit == Unit.TOKENS else f"{dollars(value)} USD"


def _time(result: Mapping[str, Any]) -> str:
    """Wall time; where nodes ran side by side, how long they took together and the measured speed-up."""
    elapsed, reason = duration(result["elapsed_seconds"]), result["mode_reason"]
    if result["mode"] == "sequential":
        return f"{elapsed}, one node after the other ({reason})"
    together = f"{duration(result['item_seconds_sum'])} of work in nodes"
    mode = "parallel" if result["mode"] == "parallel" else "several nodes per request"
    speedup = f", speed-up {result['speedup']:.1f}" if result["speedup"] > 1 else ""
    return f"{elapsed} for {together}{speedup}; {mode}, up to {result['peak_concurrency']} at once ({reason})"


def _fallback(fallback: Mapping[str, Any]) -> str:
    return f"{fallback['from']} to {fallback['to']} for {fallback['nodes']:,} nodes: {fallback['reason']}"


def _run(result: Mapping[str, Any]) -> str:
    run_id = result["run_id"]
    hint = f"`thresher facts {run_id}` prints all facts"
    if result["status"] == "cancelled":
        hint = f"`thresher retry {run_id} --cancelled` brings the cancelled nodes back"
    elif result["nodes_open"]:
        is_exhausted = any(error["class"] == BudgetExhausted.__name__ for error in result["errors"])
        hint = f"`thresher resume {run_id}{' --budget AMOUNT' if is_exhausted else ''}` goes on"
    elif result["nodes_failed"]:
        hint = f"`thresher retry {run_id}` tries the failed nodes again"
    priority = "" if result["priority"] == "normal" else f", priority {result['priority']}"
    return f"{run_id} {result['status']}{priority}; {hint}"
