"""Modes as users see them: batches against a server that makes mistakes, and a system that gives no thread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import GUARD, Thresher
from test_discover import PAX, by_model, pax_document

from thresher.testing.model_server import running_model_server

WITHOUT_THREADS = """
import sys, threading
threading.stack_size(1 << 46)  # bytes: no thread can have such a stack, so every start of one fails
from thresher.cli.app import run
sys.argv[:1] = ["thresher"]
sys.exit(run())
"""


def facts_of(thresher: Thresher, run_id: str) -> list[dict[str, Any]]:
    return [{**fact, "run_id": ""} for fact in thresher("facts", run_id, "--include-ungrounded").rows]


@pytest.mark.parametrize("faults", [{}, {"forget": 0.1, "swap": 0.3}, {"fence": 0.3, "prose": 0.3, "error_500": 0.1}])
def test_a_batch_asks_less_often_and_finds_the_same_facts(
    thresher: Thresher, tmp_path: Path, faults: dict[str, float]
) -> None:
    document = pax_document(tmp_path, 120)
    structural = thresher("discover", document, *PAX, "--json", "--quiet").json
    with running_model_server(**faults) as server:
        settings = {**by_model(server), "RETRY_BASE_SECONDS": "0.02", "MAX_RETRIES": "9"}
        done = thresher("discover", document, *PAX, "--json", "--mode", "batch", **settings)
        stats = server.stats()
    result = done.json
    assert done.code == 0, done.err
    assert (result["mode"], result["mode_reason"]) == ("batch", "--mode batch was given")
    alone = sum(fallback["nodes"] for fallback in result["fallbacks"])
    assert result["requests"] == stats["requests"]
    assert result["requests"] - alone - stats["error_500"] <= 120 / 4
    assert result["requests"] <= 120 / 2
    expected = [{**fact, "extractor": "openai:test-model"} for fact in facts_of(thresher, structural["run_id"])]
    found = facts_of(thresher, result["run_id"])
    assert [fact["fields"] for fact in found] == [fact["fields"] for fact in expected]
    assert result["fields_grounded"] == result["fields_total"]
    assert alone <= stats["forget"] + 2 * stats["swap"]
    assert bool(alone) == bool(stats["forget"] or stats["swap"]) or not faults.get("forget")
    assert thresher("show", result["run_id"], "--json").json["fallbacks"] == result["fallbacks"]


def test_equal_nodes_of_one_batch_are_asked_about_once(thresher: Thresher, tmp_path: Path) -> None:
    """Also where they differ in what is masked: each gets its own values back."""
    document = tmp_path / "equal.xml"
    pax = "".join(f"<Pax><Surname>NAME{n}</Surname><Meal>{n % 2}</Meal></Pax>" for n in range(8))
    document.write_text(f"<R><DataLists><PaxList>{pax}</PaxList></DataLists></R>", encoding="utf-8")
    asked = ("discover", document, *PAX, "--json", "--mode", "batch")
    with running_model_server() as server:
        done = thresher(*asked, **by_model(server)).json
        stats = server.stats()
        dry = thresher(*asked, "--dry-run", "--no-cache", **by_model(server)).json
        each = thresher(*asked, "--no-cache", **by_model(server)).json
        assert len(server.stats()["subtrees"]) == 2
        assert [subtree["requests"] for subtree in stats["subtrees"].values()] == [1, 1]
    assert (done["subtrees_processed"], done["requests"], done["cache_hits"]) == (8, 1, 6)
    assert (each["requests"], each["cache_hits"], dry["requests"]["expected"]) == (1, 0, 1)
    names = [field["value"] for fact in facts_of(thresher, done["run_id"]) for field in fact["fields"]]
    assert [name for name in names if name.startswith("NAME")] == [f"NAME{n}" for n in range(8)]
    assert facts_of(thresher, done["run_id"]) == facts_of(thresher, each["run_id"])


def test_a_second_run_in_batch_mode_pays_nothing_and_one_changed_node_pays_for_one(
    thresher: Thresher, tmp_path: Path
) -> None:
    document = pax_document(tmp_path, 40)
    asked = ("discover", document, *PAX, "--json", "--quiet", "--mode", "batch")
    with running_model_server() as server:
        first = thresher(*asked, **by_model(server)).json
        paid = server.stats()["requests"]
        second = thresher(*asked, **by_model(server)).json
        assert server.stats()["requests"] == paid == first["requests"]
        document.write_text(document.read_text("utf-8").replace("meal 140 ", "meal 999 "), encoding="utf-8")
        third = thresher(*asked, **by_model(server)).json
        assert server.stats()["requests"] == paid + 1
    assert (second["requests"], second["cache_hits"], second["tokens"]) == (0, 40, 0)
    assert (third["requests"], third["cache_hits"]) == (1, 39)
    assert facts_of(thresher, first["run_id"]) == facts_of(thresher, second["run_id"])


def test_two_nodes_are_read_by_one_request(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server() as server:
        done = thresher("discover", pax_document(tmp_path, 2), *PAX, "--json", **by_model(server))
        assert server.stats()["requests"] == 1
    assert (done.json["mode"], done.json["mode_reason"], done.json["fallbacks"]) == ("batch", "auto: 2 nodes", [])


def test_sequential_wins_over_every_other_word(thresher: Thresher, tmp_path: Path) -> None:
    document = pax_document(tmp_path, 4)
    asked = ("discover", document, *PAX, "--json", "--quiet")
    given = thresher(*asked, "--mode", "parallel", ENABLE_PARALLEL_PROCESSING="false").json
    assert (given["mode"], given["mode_reason"]) == ("sequential", "ENABLE_PARALLEL_PROCESSING is false")
    assert thresher(*asked, "--sequential", PROCESSING_MODE="parallel").json["mode"] == "sequential"
    assert thresher(*asked, PROCESSING_MODE="parallel").json["mode_reason"] == "PROCESSING_MODE is parallel"


def test_batch_mode_without_a_model_says_why_it_is_none(thresher: Thresher, tmp_path: Path) -> None:
    done = thresher("discover", pax_document(tmp_path, 4), *PAX, "--json", "--quiet", "--mode", "batch")
    reason = "the reader structural takes one subtree at a time"
    assert done.json["mode"] == "sequential"
    assert [fallback["reason"] for fallback in done.json["fallbacks"]] == [reason]
    assert f"Note: mode batch cannot work ({reason}): going on in mode sequential." in done.err


def test_where_the_system_gives_no_thread_the_run_goes_on_and_says_so(thresher: Thresher, tmp_path: Path) -> None:
    document = pax_document(tmp_path, 30)
    with running_model_server() as server:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_THREADS, "discover", str(document), *PAX, "--json"],
            cwd=thresher.folder,
            env=thresher._environment(by_model(server)),
            capture_output=True,
            text=True,
            timeout=GUARD,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["status"], result["mode"], result["subtrees_processed"]) == ("succeeded", "batch", 30)
    assert result["mode_reason"] == "parallel cannot work here: can't start new thread"
    assert [(some["from"], some["to"]) for some in result["fallbacks"]] == [("parallel", "batch")]
    assert "Note: mode parallel cannot work (can't start new thread): going on in mode batch." in done.stderr
    shown = thresher("show", result["run_id"], "--json").json
    assert (shown["mode"], shown["fallbacks"]) == ("batch", result["fallbacks"])
