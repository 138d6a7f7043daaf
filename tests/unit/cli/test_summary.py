"""What people read when a run has ended."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from thresher.cli.summary import print_facts, print_summary

RESULT: dict[str, Any] = {
    "run_id": "r1", "file": "order.xml", "status": "succeeded", "mode": "parallel", "mode_reason": "because",
    "provider": "openai", "model": "m", "spec_version": "19.2", "message_root": "OrderViewRS", "sender": None,
    "limit": None, "subtrees_matched": 10, "nodes_total": 10, "subtrees_processed": 10, "nodes_skipped": 0,
    "nodes_failed": 0, "nodes_cancelled": 0, "priority": "normal",
    "nodes_open": 0, "node_facts_extracted": 10, "fields_total": 2000, "fields_grounded": 2000,
    "elapsed_seconds": 20.0, "item_seconds_sum": 180.0, "speedup": 9.0, "peak_concurrency": 10, "requests": 11,
    "cache_hits": 0, "tokens": 12345, "cost_usd": 0.25, "budget": None, "spent": None,
    "spent_at_most": None, "errors": [],
    "fallbacks": [],
}  # fmt: skip


def written(call: Any, *arguments: Any, width: int = 100, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    call(*arguments, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def summary(**changes: Any) -> str:
    return written(print_summary, RESULT | changes)


def fact(path: str, grounded: str = "+") -> dict[str, Any]:
    return {
        "section_path": path,
        "fields": [
            {"name": f"n{i}", "value": f"v{i}", "path": "p", "grounded": sign == "+"} for i, sign in enumerate(grounded)
        ],
    }


def test_the_speed_up_stands_beside_the_times_it_comes_from() -> None:
    assert "20 s for 3:00 min of work in nodes, speed-up 9.0; parallel, up to 10 at once (because)" in summary()


def test_no_speed_up_is_shown_where_there_was_none() -> None:
    assert "speed-up" not in summary(speedup=0.8)
    assert "one node after the other (--sequential was given)" in summary(
        mode="sequential", mode_reason="--sequential was given"
    )


def test_batch_mode_and_fallbacks_are_named_with_their_reason() -> None:
    fallback = {"from": "batch", "to": "single", "reason": "left out", "nodes": 3}
    text = summary(mode="batch", fallbacks=[fallback])
    assert "several nodes per request, up to 10 at once (because)" in text
    assert "fallback  batch to single for 3 nodes: left out" in text


def test_one_unproved_value_of_many_is_not_rounded_away() -> None:
    text = summary(fields_grounded=1999)
    assert "1,999 proved by their path in the source (99.9 %), 1 NOT FOUND there" in text
    assert "every one proved" in summary()
    assert "nothing to prove" in summary(fields_total=0, fields_grounded=0)


def test_what_is_wrong_and_what_to_do_about_it_is_said() -> None:
    error = {"class": "TransientLLMError", "count": 2, "message": "The server said 500.", "where": "/a[1]"}
    text = summary(status="partial", nodes_failed=2, subtrees_processed=8, errors=[error])
    assert "8 of 10 processed, 2 FAILED" in text
    assert "`thresher retry r1`" in text
    assert "2 x TransientLLMError at /a[1]: The server said 500." in text
    assert "`thresher resume r1`" in summary(status="paused", nodes_open=3)


def test_an_unknown_cost_is_not_shown_as_nothing() -> None:
    assert "0.2500 USD" in summary()
    assert "cost unknown" in summary(cost_usd=None)


def test_answers_from_the_cache_are_told_where_there_are_some() -> None:
    assert "from the cache" not in summary()
    assert "11 requests, 12,345 tokens, 1,200 answers from the cache, 0.2500 USD" in summary(cache_hits=1200)


def test_a_limited_run_says_that_it_did_not_read_all() -> None:
    assert "--limit" in summary(limit=8)
    assert "--limit" not in summary()


def test_without_a_terminal_every_line_stays_one_line() -> None:
    assert len(written(print_summary, RESULT, width=30).splitlines()) == 6


def test_on_a_narrow_terminal_long_lines_go_on_beside_their_label() -> None:
    lines = written(print_summary, RESULT, width=40, terminal=True).splitlines()
    assert len(lines) > 6
    assert all(len(line) <= 40 for line in lines)
    assert any(line.startswith(" " * 11) and line.strip() for line in lines)


def test_values_that_are_not_proved_are_marked_without_colours_too() -> None:
    text = written(print_facts, [fact("/r/list[1]/Pax[2]", "+-")], 1)
    assert "n1=v1 ✗  n0=v0" in text
    assert "1/2" in text


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/r/DataLists[1]/PaxList[1]/Pax[3]", "PaxList/Pax[3]"),
        ("/r/day[2]/leg[1]", "day[2]/leg[1]"),
        ("/r/LongNamesOfLists[1]/LongNameOfMember[12]", "…/LongNameOfMember[12]"),
        ("/r", "r"),
    ],
)
def test_a_fact_is_named_by_the_end_of_its_path(path: str, shown: str) -> None:
    assert f"\n{shown} " in written(print_facts, [fact(path)], 1)


def test_a_table_of_some_facts_says_how_many_more_there_are() -> None:
    assert "1 of 2,000 facts" in written(print_facts, [fact("/r/a[1]")], 2000)
    assert " facts," not in written(print_facts, [fact("/r/a[1]")], 1)
    assert written(print_facts, [], 0) == ""


def test_a_budget_stands_beside_what_is_spent_of_it_and_the_way_on_where_it_is_used_up() -> None:
    used_up = {"class": "BudgetExhausted", "count": 1, "message": "The budget ..."}
    text = summary(
        status="paused",
        nodes_open=3,
        budget={"amount": 0.5, "unit": "USD"},
        spent=0.4987,
        spent_at_most=0.4987,
        errors=[used_up],
    )
    assert "0.5000 USD, of which 0.4987 USD are spent" in text
    assert "`thresher resume r1 --budget AMOUNT` goes on" in text
    assert "20,000 tokens, of which 12,345 tokens are spent" in summary(
        budget={"amount": 20000.0, "unit": "tokens"}, spent=12345, spent_at_most=12345
    )
