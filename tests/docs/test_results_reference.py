"""The reference of results names every key that programs get, and no other."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, code, rows, section, text_of

from thresher.cli.control import state_of
from thresher.cli.dead import dead_letter
from thresher.core.config import Settings
from thresher.engine.work import AttemptRecord, AttemptStatus, Counts, Mode, Run, RunStatus
from thresher.persistence.repositories.items import DeadLetter
from thresher.workflows.discovery import NodeConfiguration, NodeProcessingResult
from thresher.workflows.discovery.configurations import ConfigurationFile
from thresher.workflows.discovery.fact_files import CSV_COLUMNS

RESULT = "docs/reference/result.md"
DOCUMENT = "<r><a id='1'><b>text</b></a><a id='2'><b>more</b></a></r>"
CONFIGURATION = "nodes: [{path: a, schema: {type: object, properties: {b: {type: string}}}}]"

Command = Callable[..., str]


@pytest.fixture(scope="module")
def thresher(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The real command line in a folder that holds a document and its configuration."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "a.xml").write_text(DOCUMENT, encoding="utf-8")
    (folder / "nodes.yaml").write_text(CONFIGURATION, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}

    def run(*arguments: str, exit_code: int = 0) -> str:
        command = [sys.executable, "-m", "thresher", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == exit_code, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def result(thresher: Command) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(thresher("discover", "a.xml", "--config", "nodes.yaml", "--json", "--quiet"))
    return found


def documented(heading: str) -> list[str]:
    return [code(cells[0])[0] for cells in rows(section(RESULT, heading))]


def test_keys_of_a_result(result: dict[str, Any], thresher: Command) -> None:
    assert documented("The result of a run") == list(result)
    assert list(json.loads(thresher("show", result["run_id"], "--json"))) == [*result, "costs"]


def test_keys_of_costs(result: dict[str, Any], thresher: Command) -> None:
    costs = json.loads(thresher("show", result["run_id"], "--json"))["costs"]
    assert documented("Costs") == list(costs)
    (by_path,) = (cells for cells in rows(section(RESULT, "Costs")) if code(cells[0]) == ["by_path"])
    assert code(by_path[1]) == list(costs["by_path"][0])


def test_keys_of_a_dry_run(thresher: Command) -> None:
    shown = json.loads(thresher("discover", "a.xml", "--dry-run", "--provider", "openai", "--json"))
    keys = {code(cells[0])[0]: code(cells[1]) for cells in rows(section(RESULT, "A dry run"))}
    assert list(keys) == list(shown)
    assert keys["largest"] == list(shown["largest"][0])
    assert list(shown["requests"]) == code(section(RESULT, "A dry run").partition("|")[0])[1:]


def test_keys_of_a_fact(result: dict[str, Any], thresher: Command) -> None:
    fact = json.loads(thresher("facts", result["run_id"]).splitlines()[0])
    assert documented("A fact") == list(fact)
    (fields,) = (cells for cells in rows(section(RESULT, "A fact")) if code(cells[0]) == ["fields"])
    assert code(fields[1]) == list(fact["fields"][0])


def test_columns_of_csv(result: dict[str, Any], thresher: Command) -> None:
    head = next(csv.reader(io.StringIO(thresher("facts", result["run_id"], "--format", "csv"))))
    assert head == list(CSV_COLUMNS)
    assert ", ".join(f"`{column}`" for column in CSV_COLUMNS[:7]) in section(RESULT, "A fact").replace("\n", " ")
    assert set(CSV_COLUMNS) <= set(code(section(RESULT, "A fact")))


def test_keys_of_a_run_in_the_list(result: dict[str, Any], thresher: Command) -> None:
    (run,) = json.loads(thresher("runs", "--json"))
    assert run["run_id"] == result["run_id"]
    assert documented("A run in the list") == list(run)


def test_keys_of_a_change(result: dict[str, Any], thresher: Command) -> None:
    change = json.loads(thresher("watch", result["run_id"], "--json"))
    assert documented("A change of a run") == list(change)


def test_keys_of_a_dead_letter() -> None:
    letter = DeadLetter(("", 1), 1, "a", "E", "m", 1, None)
    attempt = AttemptRecord(1, AttemptStatus.FAILED, datetime.now(UTC), 0.1)
    found = dead_letter("r1", letter, [attempt])
    assert documented("A dead letter") == list(found)
    (attempts,) = (cells for cells in rows(section(RESULT, "A dead letter")) if code(cells[0]) == ["attempts"])
    assert [name for name in code(attempts[1]) if name not in set(AttemptStatus)] == list(found["attempts"][0])


def test_keys_of_a_request() -> None:
    now = datetime.now(UTC)
    run = Run(
        "r1", "k", "w", RunStatus.PAUSED, Mode.PARALLEL, "", None, None, {}, {}, {}, None, None, 0,
        planning_complete=True, elapsed_seconds=0.0, created_at=now, started_at=None, finished_at=None,
    )  # fmt: skip
    (row,) = (cells for cells in rows(section("docs/reference/cli.md", "thresher pause")) if "--json" in cells[0])
    assert code(row[1]) == list(state_of(run, Counts()))


def test_keys_of_an_evaluation(result: dict[str, Any], thresher: Command, tmp_path: Path) -> None:
    gold = tmp_path / "gold.csv"
    gold.write_text("section_path,name,value\n/r/a[1],/b,other\n", encoding="utf-8")
    evaluation = json.loads(thresher("evaluate", result["run_id"], "--gold", str(gold), "--json"))
    keys = {code(cells[0])[0]: code(cells[1]) for cells in rows(section(RESULT, "An evaluation"))}
    assert list(keys) == list(evaluation)
    assert keys["micro"] == list(evaluation["micro"]) == list(evaluation["fields"]["/b"])
    assert keys["macro"] == list(evaluation["macro"])
    assert keys["wrong"] == list(evaluation["wrong"][0])


def test_keys_of_a_comparison(result: dict[str, Any], thresher: Command) -> None:
    other = json.loads(thresher("discover", "a.xml", "--limit", "1", "--json", "--quiet"))
    comparison = json.loads(thresher("diff", result["run_id"], other["run_id"], "--json", exit_code=1))
    keys = {code(cells[0])[0]: code(cells[1]) for cells in rows(section(RESULT, "A comparison"))}
    assert list(keys) == list(comparison)
    assert keys["old"] == list(comparison["old"]) == list(comparison["new"])
    assert keys["counts"] == list(comparison["counts"])
    differences = comparison["differences"]
    assert [key for key in keys["differences"] if key in differences[0]] == list(differences[0])
    text = section(RESULT, "A comparison").rpartition("|")[2]
    assert code(text)[: len(differences[0]["values"][0])] == list(differences[0]["values"][0])


def test_keys_of_inspect(thresher: Command) -> None:
    seen = json.loads(thresher("inspect", "a.xml", "--json"))
    (row,) = (cells for cells in rows(section("docs/reference/cli.md", "thresher inspect")) if "--json" in cells[0])
    assert code(row[1]) == list(seen)


def test_keys_of_cache_stats(thresher: Command) -> None:
    found = json.loads(thresher("cache", "stats", "--json"))
    (row,) = (cells for cells in rows(section("docs/reference/cli.md", "thresher cache stats")) if "--json" in cells[0])
    assert code(row[1]) == [*found, "provider", "model"]


def test_keys_of_a_configuration() -> None:
    page = text_of("docs/reference/node-configurations.md")
    known = [field.alias or name for name, field in NodeConfiguration.model_fields.items()]
    assert sorted(code(cells[0])[0] for cells in rows(page)) == sorted(known)
    assert list(ConfigurationFile.model_fields) == ["nodes"]


def test_the_python_reference_names_what_a_processing_result_has() -> None:
    page = text_of("docs/reference/python-api.md")
    (row,) = (cells for cells in rows(page) if code(cells[0]) == ["NodeProcessingResult"])
    assert code(row[1])[:-1] == list(NodeProcessingResult.__dataclass_fields__)


def test_the_data_of_the_project_is_where_pages_say() -> None:
    assert Path(ROOT, "samples", "OrderViewRS_19.2.xml").is_file()
