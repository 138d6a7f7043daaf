"""A budget is never overrun, whatever is in flight; a dry run tells beforehand what a run takes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from command import BUNDLED, GUARD, Thresher, end
from test_discover import PAX, by_model, pax_document

from thresher.testing.model_server import RunningModelServer, running_model_server

ITEMS = 60
PRICES = '[models]\n"m" = { input = 1.0, output = 4.0 }\n'


def settings(server: RunningModelServer, folder: Path) -> dict[str, str]:
    prices = folder / "prices.toml"
    prices.write_text(PRICES, encoding="utf-8")
    return {**by_model(server), "LLM_MODEL": "m", "PRICES_FILE": str(prices), "MAX_OUTPUT_TOKENS": "300"}


def tokens_of(stats: dict[str, Any]) -> int:
    return int(stats["prompt_tokens"] + stats["completion_tokens"])


def dollars_of(stats: dict[str, Any]) -> float:
    return float(stats["prompt_tokens"] * 1.0 + stats["completion_tokens"] * 4.0) / 1_000_000


@pytest.mark.parametrize("unit", ["tokens", "usd"])
def test_64_requests_in_flight_do_not_overrun_a_budget_and_more_of_it_finishes_the_run(
    thresher: Thresher, tmp_path: Path, unit: str
) -> None:
    amount = 20_000 if unit == "tokens" else 0.03
    document = pax_document(tmp_path, ITEMS)
    with running_model_server(latency=0.05) as server:
        environment = settings(server, tmp_path)
        run = (*PAX, "--workers", "64", "--json", "--budget", f"{amount}{unit}")
        first = thresher("discover", document, *run, **environment)
        paid = server.stats()
        spent = tokens_of(paid) if unit == "tokens" else dollars_of(paid)
        second = thresher("resume", first.json["run_id"], "--json", **environment)
        assert tokens_of(server.stats()) == tokens_of(paid)  # the same budget goes on
        third = thresher("resume", first.json["run_id"], "--budget", "none", "--json", **environment)
        whole = server.stats()
    assert (first.code, first.json["status"]) == (3, "paused"), first.err
    assert 0 < spent <= amount
    assert first.json["spent"] == pytest.approx(spent, abs=1e-6)
    assert first.json["budget"] == {"amount": amount, "unit": "tokens" if unit == "tokens" else "USD"}
    assert 0 < first.json["subtrees_processed"] < ITEMS
    assert first.json["nodes_failed"] == 0
    assert f"{first.json['nodes_open']} nodes are open: `thresher resume" in first.err
    assert (second.code, second.json["status"]) == (3, "paused")
    assert (third.code, third.json["subtrees_processed"]) == (0, ITEMS), third.err
    assert max(subtree["requests"] for subtree in whole["subtrees"].values()) == 1
    assert third.json["requests"] == whole["requests"] == ITEMS


def test_requests_that_time_out_count_as_what_they_may_have_taken(thresher: Thresher, tmp_path: Path) -> None:
    """Their provider may bill them: the budget holds all the same, also in later sessions."""
    amount = 60_000
    document = pax_document(tmp_path, ITEMS)
    impatient = {"REQUEST_TIMEOUT_SECONDS": "1", "RETRY_BASE_SECONDS": "0.01", "BREAKER_FAILURES": "1000"}
    with running_model_server(latency=0.05, hang=0.3, seed=2) as server:
        environment = settings(server, tmp_path) | impatient
        run = ("--json", "--workers", "8", "--budget", f"{amount}tokens")
        done = thresher("discover", document, *PAX, *run, **environment)
        stats = server.stats()
        again = thresher("resume", done.json["run_id"], "--json", **environment)
        assert server.stats()["requests"] == stats["requests"], "the same budget is still used up"
    assert (done.code, done.json["status"]) == (again.code, again.json["status"]) == (3, "paused"), done.err
    assert stats["hang"] > 0
    # this server bills what it never answered
    assert done.json["spent"] < tokens_of(stats) < done.json["spent_at_most"] <= amount
    assert "with requests that were not answered" in thresher("show", done.json["run_id"]).out


def test_two_processes_on_one_run_keep_its_budget_together(thresher_on: Thresher, tmp_path: Path) -> None:
    amount = 40_000
    document = pax_document(tmp_path, 4 * ITEMS)
    with running_model_server(latency=0.3) as server:
        environment = settings(server, tmp_path)
        begun = thresher_on("discover", document, *PAX, "--json", "--budget", "1token", **environment)
        assert (begun.code, server.stats()["requests"]) == (3, 0), begun.err
        go_on = ("resume", begun.json["run_id"], "--budget", f"{amount}tokens", "--workers", "4", "--json")
        both = [thresher_on.start(*go_on, **environment) for _ in range(2)]
        said = [process.communicate(timeout=GUARD) for process in both]
        paid = server.stats()
        again = thresher_on("resume", begun.json["run_id"], "--json", **environment)
        assert server.stats()["requests"] == paid["requests"], "the same budget is still used up"
    assert [process.returncode for process in both] == [3, 3], said
    assert tokens_of(paid) <= amount
    assert tokens_of(paid) > amount - 5_000, "it is used up, to less than one worst case"
    assert again.json["spent"] == again.json["spent_at_most"] == tokens_of(paid)
    assert max(subtree["requests"] for subtree in paid["subtrees"].values()) == 1


def test_what_a_killed_process_may_have_been_billed_counts_for_those_that_go_on(
    thresher_on: Thresher, tmp_path: Path
) -> None:
    amount = 60_000
    document = pax_document(tmp_path, 4 * ITEMS)
    with running_model_server(latency=0.3) as server:
        environment = settings(server, tmp_path)
        begun = thresher_on("discover", document, *PAX, "--json", "--budget", "1token", **environment)
        go_on = ("resume", begun.json["run_id"], "--budget", f"{amount}tokens", "--workers", "4", "--json")
        killed, other = (thresher_on.start(*go_on, **environment) for _ in range(2))
        while server.stats()["requests"] < 16:
            assert killed.poll() is None
            time.sleep(0.05)  # by its own clock: nothing of a process that works tells us
        end(killed)
        said = other.communicate(timeout=GUARD)
        billed = tokens_of(server.stats())
        again = thresher_on("resume", begun.json["run_id"], "--json", **environment)
        assert tokens_of(server.stats()) == billed, "the same budget is still used up"
    assert other.returncode == 3, said
    assert billed <= again.json["spent_at_most"] <= amount
    assert again.json["spent"] <= billed


def test_a_budget_is_for_all_files_of_a_command(thresher: Thresher, tmp_path: Path) -> None:
    documents = [pax_document(tmp_path, 8)]
    for name in ("b.xml", "c.xml"):
        other = tmp_path / name
        other.write_text(documents[0].read_text("utf-8").replace("SURNAME", name), encoding="utf-8")
        documents.append(other)
    with running_model_server() as server:
        run = (*PAX, "--json", "--no-cache", "--budget", "13000tokens")
        done = thresher("discover", *documents, *run, **settings(server, tmp_path))
        assert tokens_of(server.stats()) <= 13_000
    assert done.code == 3, done.err
    results = done.rows
    assert results[-1]["status"] == "paused"
    assert results[0]["status"] == "succeeded"
    assert results[1]["budget"]["amount"] == 13_000 - results[0]["tokens"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget", "cheap"), "'cheap' is no budget"),
        (("--budget", "1usd"), "PRICES_FILE"),
        (("--budget", "1usd", "--dry-run"), "PRICES_FILE"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_before_anything_is_sent(
    thresher: Thresher, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    with running_model_server() as server:
        environment = by_model(server) | {"LLM_MODEL": "unpriced"}
        done = thresher("discover", pax_document(tmp_path, 3), *PAX, *options, **environment)
        assert server.stats()["requests"] == 0
    assert done.code == 2
    assert said in done.err


def test_a_free_reader_takes_a_budget_and_says_that_it_is_free(thresher: Thresher) -> None:
    done = thresher("discover", BUNDLED, "--provider", "structural", "--budget", "0.01", "--json", "--quiet")
    assert done.code == 0, done.err
    assert "structural is free" in done.err
    assert done.json["spent"] == 0


def test_a_dry_run_tells_what_a_run_takes_and_more_exactly_after_one(thresher: Thresher, tmp_path: Path) -> None:
    document = pax_document(tmp_path, ITEMS)
    with running_model_server() as server:
        environment = settings(server, tmp_path)
        dry = ("discover", document, *PAX, "--dry-run", "--json")
        before = thresher(*dry, **environment)
        assert server.stats()["requests"] == 0
        assert not list(tmp_path.glob("*.db"))
        done = thresher("discover", document, *PAX, "--json", **environment)
        stats = server.stats()
        after = thresher(*dry, "--no-cache", **environment)
        cached = thresher(*dry, **environment)
    assert before.code == after.code == cached.code == 0, before.err
    assert done.json["requests"] == before.json["requests"]["expected"] == ITEMS
    assert before.json["seconds"] is None
    for name in ("prompt_tokens", "completion_tokens"):
        assert stats[name] / 2.5 <= before.json[name]["expected"] <= 2.5 * stats[name]
        assert after.json[name]["low"] <= stats[name] <= after.json[name]["high"]
        assert after.json[name]["expected"] == pytest.approx(stats[name], rel=0.02)
    assert after.json["cost_usd"]["expected"] == pytest.approx(dollars_of(stats), rel=0.02)
    assert after.json["seconds"]["expected"] > 0
    assert (cached.json["nodes_cached"], cached.json["nodes_asked"]) == (ITEMS, 0)
    assert cached.json["cost_usd"]["high"] == 0


@pytest.mark.parametrize("mode", [("--mode", "batch"), ()])
def test_a_dry_run_packs_nodes_as_the_run_does(thresher: Thresher, tmp_path: Path, mode: tuple[str, ...]) -> None:
    document = pax_document(tmp_path, 2 * ITEMS if mode else 2)  # two are read together without being told
    with running_model_server() as server:
        environment = settings(server, tmp_path)
        before = thresher("discover", document, *PAX, *mode, "--dry-run", "--json", **environment)
        done = thresher("discover", document, *PAX, *mode, "--json", **environment)
        stats = server.stats()
        again = thresher("discover", document, *PAX, *mode, "--dry-run", "--json", **environment)
    assert before.code == done.code == again.code == 0, before.err
    assert done.json["mode"] == "batch"
    told = before.json
    assert told["nodes_asked"] == done.json["subtrees_processed"]
    # the first nodes are read while the rest is still being planned: those batches are smaller
    assert stats["requests"] * 0.4 <= told["requests"]["expected"] <= stats["requests"]
    assert stats["prompt_tokens"] / 2.5 <= told["prompt_tokens"]["expected"] <= 2.5 * stats["prompt_tokens"]
    assert (again.json["nodes_asked"], again.json["requests"]["high"]) == (0, 0)


def test_a_dry_run_needs_no_key_and_no_server_and_counts_equal_nodes_once(thresher: Thresher, tmp_path: Path) -> None:
    document = tmp_path / "equal.xml"
    document.write_text("<l>" + "<i><a>1</a></i>" * 5 + "<i><a>2</a></i><i/></l>", encoding="utf-8")
    done = thresher("discover", document, "-p", "i", "--dry-run", "--json", "--provider", "openai")
    assert done.code == 0, done.err
    shown = done.json
    assert (shown["nodes_asked"], shown["nodes_repeated"], shown["nodes_without_text"]) == (2, 4, 1)
    assert shown["cost_usd"]["expected"] > 0
    said = thresher("discover", document, "-p", "i", "--dry-run", "--provider", "openai", "--budget", "0.0000001")
    assert "will not be enough" in said.out
    assert not list(tmp_path.glob("*.db"))


def test_show_tells_the_costs_by_path_and_those_of_failed_tries(thresher_on: Thresher, tmp_path: Path) -> None:
    document = tmp_path / "two.xml"
    nodes = "".join(f"<a><v>{n}</v></a><b><w>{n}{'.' * 200}</w></b>" for n in range(6))
    document.write_text(f"<l>{nodes}</l>", encoding="utf-8")
    with running_model_server(error_500=0.3, seed=3) as server:
        patient = {"RETRY_BASE_SECONDS": "0.01", "MAX_RETRIES": "50", "BREAKER_FAILURES": "1000"}
        environment = settings(server, tmp_path) | patient
        done = thresher_on("discover", document, "-p", "a", "-p", "b", "--json", **environment)
        stats = server.stats()
        again = thresher_on("discover", document, "-p", "a", "-p", "b", "--json", **environment)
    assert done.code == again.code == 0, done.err
    shown = thresher_on("show", done.json["run_id"], "--json").json
    costs = shown["costs"]
    assert {path["path"]: (path["nodes"], path["facts"]) for path in costs["by_path"]} == {"a": (6, 6), "b": (6, 6)}
    assert sum(path["requests"] for path in costs["by_path"]) == stats["requests"] == shown["requests"]
    assert sum(path["cost_usd"] for path in costs["by_path"]) == pytest.approx(dollars_of(stats), abs=1e-6)
    assert costs["failed_requests"] == stats["error_500"] > 0
    assert (costs["failed_tokens"], costs["failed_cost_usd"]) == (0, 0)
    assert costs["cost_per_fact_usd"] == pytest.approx(dollars_of(stats) / 12, abs=1e-6)
    second = thresher_on("show", again.json["run_id"], "--json").json["costs"]
    assert second["cached_answers"] == 12
    assert second["saved_cost_usd"] == pytest.approx(dollars_of(stats), abs=1e-6)
    text = thresher_on("show", again.json["run_id"]).out
    assert "12 answers came from the cache and saved about" in text
    assert json.dumps(shown)
