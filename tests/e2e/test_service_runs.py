"""Runs over HTTP: real servers in processes of their own, killed and stopped in the middle."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import BUNDLED, Thresher
from onlookers import looking_on, until_closed, until_stopping
from server import RunningServer, running_server

from thresher.testing.model_server import RunningModelServer, running_model_server

PATH = "/PaxList/Pax"
WORKERS = 4


def message(count: int) -> bytes:
    """``count`` passengers of their own text."""
    pax = "".join(f"<Pax><Id>P{number}</Id><Note>desk {number * 13}</Note></Pax>" for number in range(count))
    return f"<PaxList>{pax}</PaxList>".encode()


def by_model(server: RunningModelServer, **more: str) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": server.base_url,
        "LLM_MODEL": "test-model",
        "CACHE_ANSWERS": "false",
        "PROCESSING_MODE": "parallel",
        "MAX_PARALLEL_NODES": str(WORKERS),
        **more,
    }


@pytest.fixture
def server(thresher: Thresher) -> Iterator[RunningServer]:
    with running_server(thresher) as server:
        yield server


def test_an_uploaded_document_is_read_in_the_background(server: RunningServer) -> None:
    answer = server.upload(BUNDLED, "OrderViewRS.xml", query={"kind": "discovery", "workspace": "default"})
    assert answer.status_code == 202, answer.text
    begun = answer.json()
    assert (begun["status"], begun["started_at"], begun["file"]) == ("pending", None, "OrderViewRS.xml")
    assert answer.headers["location"] == f"/api/v1/runs/{begun['run_id']}"
    ended = server.until_ended(begun["run_id"])
    assert ended["status"] == "succeeded"
    assert ended["message_root"] == "OrderViewRS"
    assert ended["subtrees_processed"] == ended["nodes"]["succeeded"] > 0
    assert ended["node_facts_extracted"] > 0
    assert ended["started_at"] < ended["finished_at"]


def test_a_script_of_the_predecessor_waits_for_the_result(server: RunningServer) -> None:
    answer = server.upload(gzip.compress(message(5)), "pax.xml.gz", paths=PATH, query={"wait": 60})
    assert answer.status_code == 200, answer.text
    ended = answer.json()
    assert (ended["status"], ended["subtrees_processed"], ended["node_facts_extracted"]) == ("succeeded", 5, 5)


def test_who_waits_too_short_gets_the_run_as_it_is(thresher: Thresher) -> None:
    with running_model_server() as model, running_server(thresher, **by_model(model)) as server:
        model.hold()
        answer = server.upload(message(5), paths=PATH, query={"wait": 0.2})
        assert answer.status_code == 202
        assert answer.json()["finished_at"] is None


def test_a_killed_server_s_runs_go_on_with_the_next_one(thresher_on: Thresher) -> None:
    count = 40
    with running_model_server(latency=0.05) as model:
        settings = by_model(model)
        model.hold(after=8)
        with running_server(thresher_on, **settings) as first:
            run_id = first.upload(message(count), paths=PATH).json()["run_id"]
            first.until(run_id, lambda run: run["nodes"]["succeeded"] >= 5)
            first.kill()
        model.release()
        with running_server(thresher_on, **settings) as second:
            ended = second.until_ended(run_id)
        assert (ended["status"], ended["subtrees_processed"], ended["node_facts_extracted"]) == (
            "succeeded",
            count,
            count,
        )
        assert model.stats()["requests"] <= count + WORKERS


def test_a_run_that_was_never_begun_goes_on_with_the_next_server(thresher: Thresher) -> None:
    with running_model_server(latency=0.3) as model:
        settings = by_model(model, MAX_CONCURRENT_RUNS="1")
        with running_server(thresher, **settings) as first:
            runs = [first.upload(message(4 + n), paths=PATH).json()["run_id"] for n in range(3)]
            first.kill()
        with running_server(thresher, **settings) as second:
            assert [second.until_ended(run_id)["status"] for run_id in runs] == ["succeeded"] * 3


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_server_that_is_stopped_leaves_its_runs_to_the_next_one(thresher: Thresher, number: str) -> None:
    count = 30
    with running_model_server() as model:
        model.hold(after=5)
        settings = by_model(model)
        with running_server(thresher, **settings) as first:
            run_id = first.upload(message(count), paths=PATH).json()["run_id"]
            first.until(run_id, lambda run: run["nodes"]["succeeded"] >= 5)
            with looking_on(first, run_id) as connection:
                first.process.send_signal(signal.Signals[number])
                until_closed(connection)  # its runs take up nothing more
            model.release()
            code, said = first.ended()
            assert code == 0, said
            assert "Traceback" not in said
        (stopped,) = thresher("runs", "--json", **settings).json
        assert stopped["status"] == "pending"
        assert 0 < stopped["nodes_done"] < count
        with running_server(thresher, **settings) as second:
            ended = second.until_ended(run_id)
        assert (ended["status"], ended["subtrees_processed"]) == ("succeeded", count)
        assert model.stats()["requests"] == count  # what was in hand had ended


def test_two_servers_never_work_on_the_same_run(thresher_on: Thresher) -> None:
    """Each run is told to begin exactly once, in the logs of one of them."""
    with running_model_server(latency=0.02) as model:
        settings = by_model(model, LOG_LEVEL="info", LOG_FORMAT="json")
        logs = [thresher_on.folder / f"{name}.log" for name in ("one", "two")]
        with (
            running_server(thresher_on, **settings, LOG_FILE=str(logs[0])) as one,
            running_server(thresher_on, **settings, LOG_FILE=str(logs[1])) as two,
        ):
            servers = itertools.cycle((one, two))
            runs = [next(servers).upload(message(3 + n), paths=PATH).json()["run_id"] for n in range(10)]
            ended = [one.until_ended(run_id) for run_id in runs]
        assert {run["status"] for run in ended} == {"succeeded"}
        events = [json.loads(line) for log in logs for line in log.read_text("utf-8").splitlines()]
        assert sorted(event["run_id"] for event in events if event["event"] == "run started") == runs


def test_a_document_that_is_broken_further_down_fails_its_run(server: RunningServer) -> None:
    answer = server.upload(message(3)[:-10], "torn.xml")
    assert answer.status_code == 202
    ended = server.until_ended(answer.json()["run_id"])
    assert ended["status"] == "failed"
    assert ended["error"]["class"] == "MalformedDocument"
    assert "torn.xml" in ended["error"]["message"]


def test_a_run_is_paused_resumed_and_cancelled(thresher: Thresher) -> None:
    with running_model_server() as model, running_server(thresher, **by_model(model)) as server:
        model.hold(after=3)
        run_id = server.upload(message(60), paths=PATH).json()["run_id"]
        server.until(run_id, lambda run: run["nodes"]["succeeded"] >= 3)
        assert server.client.post(f"/api/v1/runs/{run_id}/pause").json()["requested"] == "pause"
        until_stopping(server, run_id)
        model.release()
        paused = server.until(run_id, lambda run: run["status"] == "paused")
        assert paused["nodes"]["running"] == 0
        model.hold(after=model.stats()["requests"] + 3)
        assert server.client.post(f"/api/v1/runs/{run_id}/resume").status_code == 200
        server.until(run_id, lambda run: run["nodes"]["succeeded"] > paused["nodes"]["succeeded"])
        server.client.post(f"/api/v1/runs/{run_id}/cancel")
        until_stopping(server, run_id)
        model.release()
        cancelled = server.until_ended(run_id)
        assert cancelled["status"] == "cancelled"
        assert cancelled["nodes"]["pending"] == cancelled["nodes"]["running"] == 0
        answer = server.client.post(f"/api/v1/runs/{run_id}/resume")
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/state-conflict")
        again = server.client.post(f"/api/v1/runs/{run_id}/retry", json={"cancelled": True})
        assert again.json()["retried"] == cancelled["nodes"]["cancelled"]
        assert server.until_ended(run_id)["status"] == "succeeded"


def test_a_deleted_run_takes_its_document_along_when_it_is_the_last(server: RunningServer, thresher: Thresher) -> None:
    def kept() -> list[Path]:
        return [path for path in (thresher.folder / "thresher-data" / "sources").rglob("*") if path.is_file()]

    runs = [server.upload(message(3), name, query={"wait": 30}).json() for name in ("a.xml", "b.xml")]
    assert [run["file"] for run in runs] == ["a.xml", "b.xml"]
    assert len(kept()) == 1, "equal documents are stored once"
    assert server.client.delete(f"/api/v1/runs/{runs[0]['run_id']}").status_code == 204
    assert len(kept()) == 1
    assert server.client.delete(f"/api/v1/runs/{runs[1]['run_id']}").status_code == 204
    assert kept() == []
    assert server.client.get(f"/api/v1/runs/{runs[1]['run_id']}").status_code == 404


def test_runs_are_listed_page_by_page(server: RunningServer) -> None:
    runs = [server.upload(message(1), f"{n}.xml", query={"wait": 30}).json()["run_id"] for n in range(5)]
    seen, cursor = [], None
    while True:
        page = server.client.get("/api/v1/runs/", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [run["run_id"] for run in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == runs[::-1]
    of_state = {"status": ["succeeded", "partial"], "sort": "created_at"}
    assert [run["run_id"] for run in server.client.get("/api/v1/runs/", params=of_state).json()["data"]] == runs
    assert server.client.get("/api/v1/runs/", params={"status": "failed"}).json() == {"data": [], "next": None}
