"""The main job as its users run it."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from command import BUNDLED, GUARD, Thresher, end, interrupt, until_held

from thresher.testing.model_server import RunningModelServer, running_model_server

PAX = ("--path", "DataLists/PaxList/Pax")
RESULT_KEYS = {
    "run_id", "status", "mode", "mode_reason", "provider", "model", "spec_version", "message_root", "sender",
    "subtrees_matched", "nodes_total", "subtrees_processed", "nodes_skipped", "nodes_failed", "node_facts_extracted",
    "fields_total", "fields_grounded", "elapsed_seconds", "item_seconds_sum", "speedup", "peak_concurrency", "requests",
    "tokens", "cost_usd", "errors",
}  # fmt: skip
FACT_KEYS = {
    "run_id", "section_path", "node_type", "node_ordinal", "extractor", "confidence", "pii_masked", "fields",
    "references",
}  # fmt: skip


def pax_document(folder: Path, count: int) -> Path:
    """A message of our own with ``count`` passengers, each a subtree of its own text."""
    pax = "".join(
        f'<Pax><PaxID>P{number}</PaxID><PTC>ADT</PTC><Seat row="{number}">{number}C</Seat>'
        f"<Note>meal {number * 7} ordered at desk {number * 13}</Note></Pax>"
        for number in range(count)
    )
    file = folder / f"{count}.xml"
    file.write_text(f"<OrderViewRS><DataLists><PaxList>{pax}</PaxList></DataLists></OrderViewRS>", encoding="utf-8")
    return file


def by_model(server: RunningModelServer) -> dict[str, str]:
    return {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test-key", "LLM_MODEL": "test-model"}


def test_without_any_configuration_the_bundled_document_becomes_proved_facts(thresher: Thresher) -> None:
    done = thresher("discover", BUNDLED, "--json")
    assert done.code == 0, done.err
    result = done.json
    assert set(result) >= RESULT_KEYS
    assert (result["status"], result["provider"], result["mode"]) == ("succeeded", "structural", "parallel")
    assert (result["message_root"], result["spec_version"]) == ("OrderViewRS", "19.2")
    assert result["fields_grounded"] == result["fields_total"] > 1000
    assert result["nodes_failed"] == 0
    facts = thresher("facts", result["run_id"]).rows
    assert len(facts) == result["node_facts_extracted"]
    assert all(set(fact) >= FACT_KEYS and fact["extractor"] == "structural" for fact in facts)


def test_people_get_a_table_and_a_summary(thresher: Thresher) -> None:
    done = thresher("discover", BUNDLED)
    assert done.code == 0, done.err
    assert "every one proved by its path in the source" in done.out
    assert "structural (no model" in done.out
    assert "Starting run" in done.err


def test_facts_come_as_jsonl_json_and_safe_csv(thresher: Thresher, tmp_path: Path) -> None:
    file = tmp_path / "formulas.xml"
    file.write_text('<r><i><a>=1+1</a><b>@cmd</b><c>-5</c><d>plain, "quoted"</d></i></r>', encoding="utf-8")
    run = thresher("discover", file, "--path", "/r/i", "--json").json["run_id"]
    jsonl = thresher("facts", run).rows
    assert thresher("facts", run, "--format", "json").json == jsonl
    table = list(csv.DictReader(io.StringIO(thresher("facts", run, "--format", "csv").out)))
    assert [row["value"] for row in table] == ["'=1+1", "'@cmd", "'-5", 'plain, "quoted"']
    assert [row["path"] for row in table] == ["a", "b", "c", "d"]

    output = tmp_path / "facts.jsonl"
    assert thresher("facts", run, "--output", output).out == ""
    assert [json.loads(line) for line in output.read_text("utf-8").splitlines()] == jsonl


def test_runs_and_show_list_what_there_is(thresher: Thresher) -> None:
    first = thresher("discover", BUNDLED, *PAX, "--json").json
    second = thresher("discover", BUNDLED, "--json").json
    listed = thresher("runs", "--json").json
    assert [run["run_id"] for run in listed] == [second["run_id"], first["run_id"]]
    shown = thresher("show", first["run_id"], "--json").json
    assert {key: shown[key] for key in RESULT_KEYS} == {key: first[key] for key in RESULT_KEYS}
    assert first["run_id"] in thresher("show", first["run_id"]).out


def test_sequential_gives_the_same_facts_in_the_same_order(thresher: Thresher) -> None:
    def export(run_id: str) -> list[dict[str, object]]:
        return [{**row, "run_id": None} for row in thresher("facts", run_id).rows]

    parallel = thresher("discover", BUNDLED, "--json").json
    sequential = thresher("discover", BUNDLED, "--json", ENABLE_PARALLEL_PROCESSING="false").json
    assert (sequential["mode"], sequential["peak_concurrency"]) == ("sequential", 1)
    assert "ENABLE_PARALLEL_PROCESSING" in sequential["mode_reason"]
    assert export(parallel["run_id"]) == export(sequential["run_id"])


def test_ten_workers_are_ten_requests_at_once(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server(latency=0.5) as server:
        done = thresher("discover", pax_document(tmp_path, 23), *PAX, "--json", **by_model(server))
        stats = server.stats()
    assert done.code == 0, done.err
    assert (done.json["peak_concurrency"], stats["max_concurrency"], stats["requests"]) == (10, 10, 23)


def test_the_model_sees_each_subtree_once_and_its_facts_are_proved(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server() as server:
        done = thresher("discover", pax_document(tmp_path, 30), *PAX, "--json", **by_model(server))
        stats = server.stats()
    result = done.json
    assert (result["provider"], result["model"], result["requests"]) == ("openai", "test-model", 30)
    assert result["tokens"] > 0
    assert result["cost_usd"] is None, "the price of an unknown model is unknown, not 0"
    assert result["fields_grounded"] == result["fields_total"] > 0
    assert sorted(entry["requests"] for entry in stats["subtrees"].values()) == [1] * 30


def test_exactly_the_values_that_the_model_made_up_are_ungrounded(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server(lie=0.1, seed=7) as server:
        result = thresher("discover", pax_document(tmp_path, 60), *PAX, "--json", **by_model(server)).json
        lies = server.stats()["lies"]
    rows = thresher("facts", result["run_id"], "--include-ungrounded").rows
    ungrounded = [
        (row["section_path"], value["path"]) for row in rows for value in row["fields"] if not value["grounded"]
    ]
    assert len(lies) > 5
    assert len(ungrounded) == len(lies) == result["fields_total"] - result["fields_grounded"]
    assert Counter(path for _section, path in ungrounded) == Counter(lie["path"] for lie in lies)
    proved = thresher("facts", result["run_id"]).rows
    assert all(value["grounded"] for row in proved for value in row["fields"])
    assert sum(len(row["fields"]) for row in proved) == result["fields_grounded"]


def test_a_model_that_fails_for_some_nodes_gives_a_partial_run(thresher: Thresher, tmp_path: Path) -> None:
    document = pax_document(tmp_path, 12)
    with running_model_server(fail_matching="<PaxID>P5</PaxID>") as server:
        done = thresher("discover", document, *PAX, "--json", RETRY_BASE_SECONDS="0.01", **by_model(server))
    assert done.code == 3
    result = done.json
    assert (result["status"], result["nodes_failed"], result["subtrees_processed"]) == ("partial", 1, 11)
    assert result["errors"][0]["class"] == "TransientLLMError"
    assert result["errors"][0]["where"].endswith("Pax[6]")
    assert len(thresher("facts", result["run_id"]).rows) == 11

    with running_model_server() as server:
        again = thresher("retry", result["run_id"], "--json", **by_model(server))
        paid = server.stats()["requests"]
    assert (again.code, again.json["status"], paid) == (0, "succeeded", 1)
    assert len(thresher("facts", result["run_id"]).rows) == 12


def test_after_kill_9_a_run_goes_on_and_pays_only_for_what_was_in_flight(thresher_on: Thresher, tmp_path: Path) -> None:
    document, workers = pax_document(tmp_path, 300), 10
    with running_model_server(latency=0.05) as server:
        server.hold(after=119)
        process = thresher_on.start("discover", document, *PAX, "--quiet", **by_model(server))
        until_held(server, process)
        end(process)
        server.release()
        (run,) = thresher_on("runs", "--json").json
        assert run["status"] == "running"
        done = thresher_on("resume", run["run_id"], "--json", **by_model(server))
        stats = server.stats()
    assert done.code == 0, done.err
    assert (done.json["subtrees_processed"], done.json["nodes_total"]) == (300, 300)
    paths = [row["section_path"] for row in thresher_on("facts", run["run_id"]).rows]
    assert len(paths) == len(set(paths)) == 300
    assert 300 <= stats["requests"] <= 300 + workers


def test_resume_reads_as_the_run_began_whatever_is_configured_now(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server() as server:
        server.hold(after=11)
        process = thresher.start("discover", pax_document(tmp_path, 40), *PAX, "--quiet", **by_model(server))
        until_held(server, process)
        end(process)
        server.release()
        (run,) = thresher("runs", "--json").json
        without_key = thresher("resume", run["run_id"])
        assert (without_key.code, "OPENAI_API_KEY" in without_key.err) == (2, True)
        other_model = {**by_model(server), "LLM_MODEL": "another", "LLM_PROVIDER": "structural"}
        done = thresher("resume", run["run_id"], "--json", **other_model)
    assert (done.code, done.json["model"]) == (0, "test-model")
    assert {row["extractor"] for row in thresher("facts", run["run_id"]).rows} == {"openai:test-model"}


def test_ctrl_c_finishes_what_is_in_hand_and_resume_goes_on(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server() as server:
        server.hold(after=14)
        process = thresher.start("discover", pax_document(tmp_path, 80), *PAX, "--json", **by_model(server))
        until_held(server, process)
        interrupt(process)
        server.release()
        out, err = process.communicate(timeout=GUARD)
        assert process.returncode == 130, err
        result = json.loads(out)
        assert result["status"] == "paused"
        assert result["subtrees_processed"] == server.stats()["requests"]
        done = thresher("resume", result["run_id"], "--json", **by_model(server))
        assert (done.code, server.stats()["requests"]) == (0, 80)


def test_a_retry_works_in_the_mode_that_is_set_now_and_says_so(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server(fail_matching="<PaxID>P1</PaxID>") as server:
        settings = by_model(server) | {"RETRY_BASE_SECONDS": "0.01", "MAX_RETRIES": "0"}
        run = thresher("discover", pax_document(tmp_path, 3), *PAX, "--json", **settings).json
        again = thresher("retry", run["run_id"], "--json", ENABLE_PARALLEL_PROCESSING="false", **settings).json
    assert (run["mode"], again["mode"]) == ("parallel", "sequential")
    assert again["mode_reason"] == "ENABLE_PARALLEL_PROCESSING is false"
    assert thresher("show", run["run_id"], "--json").json["mode_reason"] == again["mode_reason"]


def test_no_model_reachable_fails_at_once(thresher: Thresher) -> None:
    done = thresher("discover", BUNDLED, OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_API_KEY="k")
    assert done.code == 1
    assert "127.0.0.1:9" in done.err
    assert "Traceback" not in done.err


def test_a_wrong_key_fails_the_run_at_once_not_once_per_node(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server(api_key="right") as server:
        done = thresher("discover", pax_document(tmp_path, 40), *PAX, "--json", **by_model(server))
        assert server.stats()["requests"] <= 10
    assert done.code == 1
    assert "key" in done.err


def test_personal_data_does_not_reach_the_model(thresher: Thresher, tmp_path: Path) -> None:
    file = tmp_path / "pii.xml"
    file.write_text(
        "<OrderViewRS><DataLists><PaxList><Pax><PaxID>P1</PaxID><Individual><GivenName>Wilhelmina</GivenName>"
        "<Surname>Quackenbush</Surname><Birthdate>1961-02-03</Birthdate></Individual><Contact>"
        "<EmailAddress>wilhelmina@example.org</EmailAddress></Contact></Pax></PaxList></DataLists></OrderViewRS>",
        encoding="utf-8",
    )
    planted = ("Wilhelmina", "Quackenbush", "1961-02-03", "wilhelmina@example.org")
    with running_model_server() as server:
        result = thresher("discover", file, *PAX, "--json", **by_model(server)).json
        seen = json.dumps(server.stats()["subtrees"])
    assert not [secret for secret in planted if secret in seen]
    (fact,) = thresher("facts", result["run_id"]).rows
    assert fact["pii_masked"] is True
    assert {value["value"] for value in fact["fields"]} >= set(planted)
    assert all(value["grounded"] for value in fact["fields"])


@pytest.mark.parametrize(
    "fault", [{"fence": 1.0}, {"prose": 1.0}, {"truncate": 0.2}, {"error_500": 0.2}, {"drop": 0.2}]
)
def test_answers_in_disguise_and_passing_faults_lose_nothing(
    thresher: Thresher, tmp_path: Path, fault: dict[str, float]
) -> None:
    environment = {"RETRY_BASE_SECONDS": "0.01", "MAX_RETRIES": "10"}
    with running_model_server(seed=3, **fault) as server:
        done = thresher("discover", pax_document(tmp_path, 40), *PAX, "--json", **environment, **by_model(server))
    assert done.code == 0, done.out + done.err
    result = done.json
    assert (result["subtrees_matched"], result["fields_grounded"]) == (40, result["fields_total"])
    values = {value["value"] for row in thresher("facts", result["run_id"]).rows for value in row["fields"]}
    assert {f"P{number}" for number in range(40)} <= values


def test_a_users_schema_gives_proved_records(thresher: Thresher, tmp_path: Path) -> None:
    config = tmp_path / "nodes.yaml"
    config.write_text(
        "nodes:\n"
        "  - path: DataLists/PaxList/Pax\n"
        "    instructions: One passenger.\n"
        "    schema:\n"
        "      type: object\n"
        "      properties: {pax_id: {type: string}, ptc: {type: string, enum: [ADT, CHD]}}\n"
        "      required: [pax_id]\n"
        "  - path: DataLists/Other\n"
        "    enabled: false\n",
        encoding="utf-8",
    )
    document = pax_document(tmp_path, 4)
    with running_model_server() as server:
        done = thresher("discover", document, "--config", config, "--json", **by_model(server))
    assert done.code == 0, done.err
    rows = thresher("facts", done.json["run_id"]).rows
    assert [row["record"] for row in rows] == [{"pax_id": f"P{number}", "ptc": "ADT"} for number in range(4)]
    assert {(value["name"], value["path"]) for value in rows[0]["fields"]} == {("/pax_id", "PaxID"), ("/ptc", "PTC")}


def test_sqlite_and_postgresql_give_identical_exports(thresher: Thresher, postgres_url: str) -> None:
    def export(url: str) -> str:
        run = thresher("discover", BUNDLED, "--json", DATABASE_URL=url).json["run_id"]
        return thresher("facts", run, "--include-ungrounded", DATABASE_URL=url).out.replace(run, "RUN")

    assert export("sqlite:///one.db") == export(postgres_url)
