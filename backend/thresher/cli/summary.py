"""The result of a discovery for people: a table of facts and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thresher.cli.display import duration

NODES_SHOWN = 12
VALUES_SHOWN = 4


def print_facts(facts: Iterable[Mapping[str, Any]], console: Console) -> None:
    """The first facts, a line each; values that are not proved are marked."""
    shown = list(islice(facts, NODES_SHOWN))
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("node", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("facts", no_wrap=True, overflow="ellipsis", ratio=6)
    table.add_column("proved", justify="right", no_wrap=True, min_width=6)
    for fact in shown:
        fields = fact["fields"]
        proved = sum(1 for field in fields if field["grounded"])
        style = "green" if proved == len(fields) else "yellow"
        table.add_row(Text(_short(fact["section_path"])), _values(fields), Text(f"{proved}/{len(fields)}", style=style))
    if shown:
        console.print(table)


def _short(path: str) -> str:
    """The last three steps of a path, where a person looks first."""
    steps = path.split("/")
    return path if len(steps) <= 4 else "…/" + "/".join(steps[-2:])  # root and two below


def _values(fields: Sequence[Mapping[str, Any]]) -> Text:
    text = Text()
    for field in fields[:VALUES_SHOWN]:
        text.append(f"{field['name']}=", style="dim")
        text.append(f"{field['value']}  ", style="" if field["grounded"] else "yellow strike")
    if len(fields) > VALUES_SHOWN:
        text.append(f"+{len(fields) - VALUES_SHOWN} more", style="dim")
    return text


def print_summary(result: Mapping[str, Any], console: Console) -> None:
    """What was read, found, proved, paid, and what failed."""
    for label, value in _lines(result):
        console.print(Text.assemble((f"{label:>9}  ", "bold"), value), soft_wrap=True)
    for error in result["errors"]:
        where = f" at {error['where']}" if error.get("where") else ""
        line = f"{error['count']} x {error['class']}{where}: {error['message']}"
        console.print(Text.assemble(("    error  ", "bold red"), line), soft_wrap=True)


def _lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    what = " ".join(str(result[key]) for key in ("message_root", "spec_version", "sender") if result[key])
    lines = [
        ("document", f"{result['file']} ({what})" if what else str(result["file"])),
        ("nodes", _nodes(result)),
        ("facts", f"{result['node_facts_extracted']} with {result['fields_total']} values, {_proved(result)}"),
        ("reader", _reader(result)),
        ("time", _time(result)),
        ("run", _run(result)),
    ]
    return [line for line in lines if line[1]]


def _nodes(result: Mapping[str, Any]) -> str:
    parts = [f"{result['subtrees_processed']} of {result['nodes_total']} processed"]
    if result["nodes_total"] > result["subtrees_matched"]:
        parts.append(f"{result['subtrees_matched']} subtrees, the large ones split")
    parts.extend(
        f"{result[key]} {word}"
        for key, word in (("nodes_skipped", "skipped"), ("nodes_failed", "failed"), ("nodes_open", "still open"))
        if result[key]
    )
    return ", ".join(parts)


def _proved(result: Mapping[str, Any]) -> str:
    total, grounded = result["fields_total"], result["fields_grounded"]
    if not total:
        return "nothing to prove"
    if grounded == total:
        return "every one proved by its path in the source"
    return f"{grounded} proved by their path in the source ({grounded / total:.0%}), {total - grounded} NOT FOUND there"


def _reader(result: Mapping[str, Any]) -> str:
    if result["provider"] == "structural":
        return "structural (no model: texts and attributes as they stand)"
    cost = "cost unknown (no price for this model)" if result["cost_usd"] is None else f"{result['cost_usd']:.4f} USD"
    return f"{result['provider']} {result['model']}, {result['requests']} requests, {result['tokens']} tokens, {cost}"


def _time(result: Mapping[str, Any]) -> str:
    return (
        f"{duration(result['elapsed_seconds'])}, {result['mode']} ({result['mode_reason']}), "
        f"{result['speedup']:.1f} times the speed of one after the other"
    )


def _run(result: Mapping[str, Any]) -> str:
    run_id = result["run_id"]
    hint = f"`thresher facts {run_id}` prints all facts"
    if result["nodes_open"]:
        hint = f"`thresher resume {run_id}` goes on"
    elif result["nodes_failed"]:
        hint = f"`thresher retry {run_id}` tries the failed nodes again"
    return f"{run_id} {result['status']}; {hint}"
