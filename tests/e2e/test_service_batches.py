"""Batches over HTTP: files and addresses, duplicates, failures of some, control, results, servers that are killed."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from command import GUARD, Thresher
from onlookers import looking_on, until_closed
from receiver import LOOPBACK, Request, web_server
from server import XML, RunningServer, running_server
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from thresher.testing.model_server import RunningModelServer, running_model_server

BATCH = "/api/v1/batch"
OPTIONS = {"paths": ["/PaxList/Pax"]}


def message(number: int, count: int = 2) -> bytes:
    pax = "".join(f"<Pax><Id>P{number}-{one}</Id><Note>desk {number * 13 + one}</Note></Pax>" for one in range(count))
    return f"<PaxList>{pax}</PaxList>".encode()


def documents(request: Request) -> tuple[int, dict[str, str], bytes]:
    """``/7.xml`` is a document of its own; others say by their name what they do."""
    path = request.path.partition("?")[0].strip("/")
    if path.startswith("moved"):
        return 302, {"Location": "/7.xml"}, b"<html>over there</html>"
    if path.startswith("page"):
        return 200, {}, b"no XML at all"
    if path.startswith("busy"):
        return 503, {}, b""
    if not path.endswith(".xml"):
        return 404, {}, b"<html>nothing here</html>"
    return 200, {"Content-Type": XML}, message(int(path.removesuffix(".xml")))


def begun(server: RunningServer, **wanted: Any) -> dict[str, Any]:
    answer = server.client.post(BATCH, json={"options": OPTIONS, **wanted})
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def until(server: RunningServer, batch_id: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + GUARD
    while True:
        found: dict[str, Any] = server.client.get(f"{BATCH}/{batch_id}/status").json()
        counts = dict(found["documents"])
        assert counts.pop("total") == sum(counts.values()), "counts add up at all times"
        if is_so(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05)


def until_ended(server: RunningServer, batch_id: str) -> dict[str, Any]:
    return until(server, batch_id, lambda batch: batch["finished_at"] is not None)


def documents_of(server: RunningServer, batch_id: str, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client.get(f"{BATCH}/{batch_id}/documents", params=query).json()["data"]
    return found


def by_model(model: RunningModelServer, **more: str) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": model.base_url,
        "LLM_MODEL": "test-model",
        "CACHE_ANSWERS": "false",
        "PROCESSING_MODE": "parallel",
        "MAX_PARALLEL_NODES": "4",
        **more,
    }


def test_files_of_one_call_are_read_each_by_a_run_of_its_own(thresher_on: Thresher) -> None:
    files = [("file", (f"{number}.xml", message(number), XML)) for number in range(5)]
    files += [("file", ("again.xml", message(3), XML)), ("file", ("notes.txt", b"no XML", "text/plain"))]
    with running_server(thresher_on) as server:
        fields = {"options": json.dumps(OPTIONS), "name": "five and two"}
        answer = server.client.post(BATCH, files=files, data=fields)
        assert answer.status_code == 202, answer.text
        batch_id = answer.json()["batch_id"]
        ended = until_ended(server, batch_id)
        assert (ended["status"], ended["name"], ended["node_facts_extracted"]) == ("partial", "five and two", 10)
        listed = documents_of(server, batch_id)
        assert [document["name"] for document in listed] == [*(f"{n}.xml" for n in range(5)), "again.xml", "notes.txt"]
        assert [document["status"] for document in listed] == [*["succeeded"] * 5, "duplicate", "failed"]
        assert listed[5]["duplicate_of"] == 4
        assert listed[6]["error_class"] == "UnsupportedDocument"
        page = server.client.get(f"{BATCH}/{batch_id}/documents", params={"limit": 3}).json()
        assert documents_of(server, batch_id, cursor=page["next"])[0]["number"] == 4
        rows = [json.loads(line) for line in server.client.get(f"{BATCH}/{batch_id}/results?format=jsonl").iter_lines()]
        assert [row["document_number"] for row in rows] == [n for n in range(1, 6) for _ in range(2)]
        table = list(csv.DictReader(io.StringIO(server.client.get(f"{BATCH}/{batch_id}/results?format=csv").text)))
        assert {(row["document"], row["value"]) for row in table} >= {("2.xml", "P2-0"), ("2.xml", "desk 27")}
        assert server.client.delete(f"{BATCH}/{batch_id}").status_code == 204
        assert server.client.get("/api/v1/runs/").json()["data"] == []


def test_documents_are_fetched_from_their_addresses(thresher_on: Thresher) -> None:
    with web_server(documents) as web, running_server(thresher_on, **LOOPBACK, RETRY_BASE_SECONDS="0.05") as server:
        addresses = [f"{web.address}{path}" for path in ("/1.xml", "/moved", "/1.xml/?utm_source=x#top", "/gone")]
        batch = begun(server, urls=[*addresses, f"{web.address}/page", f"{web.address}/busy", f"{web.address}/2.xml"])
        ended = until_ended(server, batch["batch_id"])
        assert ended["status"] == "partial"
        listed = documents_of(server, batch["batch_id"])
        said = [(document["status"], document["error_class"]) for document in listed]
        assert said == [
            ("succeeded", None),
            ("succeeded", None),
            ("duplicate", None),
            ("failed", "PageRefused"),
            ("failed", "UnsupportedDocument"),
            ("failed", "PageUnreachable"),
            ("succeeded", None),
        ]
        assert listed[5]["attempts"] == 4, "retries are bounded"
        assert "404" in listed[3]["error_message"]
        web.answer = lambda request: (200, {}, message(len(request.path)))
        answer = server.client.post(f"{BATCH}/{batch['batch_id']}/retry", json={}).json()
        assert (answer["retried"], answer["batch"]["finished_at"]) == (3, None)
        ended = until_ended(server, batch["batch_id"])
        assert ended["status"] == "succeeded"
        assert server.client.post(f"{BATCH}/{batch['batch_id']}/retry", json={}).status_code == 409
        assert server.client.get(f"{BATCH}/{batch['batch_id']}/status").json() == ended, "it has not been opened again"


def test_private_addresses_are_refused_also_behind_a_redirect(thresher: Thresher) -> None:
    with web_server(documents) as web, running_server(thresher) as server:
        port = web.address.rpartition(":")[2]
        hosts = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "169.254.169.254")
        ended = until_ended(server, begun(server, urls=[f"http://{host}:{port}/1.xml" for host in hosts])["batch_id"])
        assert ended["status"] == "failed"
        listed = documents_of(server, ended["batch_id"])
        assert {document["error_class"] for document in listed} == {"AddressForbidden"}
        assert web.requests == []
    with (
        web_server(lambda _: (302, {"Location": "http://169.254.169.254/latest"}, b"")) as web,
        running_server(thresher, **LOOPBACK) as server,
    ):
        ended = until_ended(server, begun(server, urls=[f"{web.address}/1.xml"])["batch_id"])
        assert documents_of(server, ended["batch_id"])[0]["error_class"] == "AddressForbidden"


@pytest.mark.parametrize(
    "wanted",
    [
        {"urls": []},
        {"urls": ["file:///etc/passwd"]},
        {"urls": ["http://me:secret@example.com/a.xml"]},
        {"urls": ["http://example.com/"] * 1001},
        {"documents": [{"url": "http://example.com/", "source_id": "d1"}]},
        {"documents": [{"source_id": "d0000"}]},
        {"urls": ["http://example.com/"], "template": "none"},
        {"urls": ["http://example.com/"], "options": {"colour": "red"}},
    ],
)
def test_what_cannot_be_a_batch_is_refused(server: RunningServer, wanted: dict[str, Any]) -> None:
    answer = server.client.post(BATCH, json=wanted)
    assert answer.status_code in {404, 422}, answer.text
    assert "secret" not in answer.text
    assert server.client.get(BATCH).json()["data"] == []


@pytest.fixture
def server(thresher: Thresher) -> Any:
    with running_server(thresher) as server:
        yield server


def test_a_hundred_addresses_are_accepted_before_one_of_them_has_answered(thresher: Thresher) -> None:
    may_answer = Event()

    def in_its_time(request: Request) -> tuple[int, dict[str, str], bytes]:
        may_answer.wait(30)
        return documents(request)

    with web_server(in_its_time) as web, running_server(thresher, **LOOPBACK) as server:
        try:
            batch = begun(server, urls=[f"{web.address}/{number}.xml" for number in range(100)])
            assert batch["documents"]["total"] == 100
            web.until(1)
        finally:
            may_answer.set()
        assert until_ended(server, batch["batch_id"])["documents"]["succeeded"] == 100


def test_a_batch_goes_on_after_its_server_was_killed(thresher_on: Thresher) -> None:
    count = 12
    with running_model_server(latency=0.05) as model, web_server(documents) as web:
        settings = by_model(model, **LOOPBACK, FETCH_WORKERS="2", MAX_CONCURRENT_RUNS="2")
        with running_server(thresher_on, **settings) as first:
            batch_id = begun(first, urls=[f"{web.address}/{number}.xml" for number in range(count)])["batch_id"]
            until(first, batch_id, lambda batch: batch["documents"]["succeeded"] >= 2)
            first.kill()
        with running_server(thresher_on, **settings) as second:
            ended = until_ended(second, batch_id)
            runs = second.client.get("/api/v1/runs/", params={"limit": 100}).json()["data"]
        assert (ended["status"], ended["documents"]["succeeded"]) == ("succeeded", count)
        assert ended["node_facts_extracted"] == 2 * count, "no document is lost, none is read twice"
        assert len(runs) == count


def test_a_batch_is_paused_resumed_and_cancelled(thresher: Thresher) -> None:
    with (
        running_model_server(latency=0.2) as model,
        web_server(documents) as web,
        running_server(thresher, **by_model(model, **LOOPBACK, MAX_CONCURRENT_RUNS="1")) as server,
    ):
        batch_id = begun(server, urls=[f"{web.address}/{number}.xml" for number in range(30)])["batch_id"]
        place = f"{BATCH}/{batch_id}"
        until(server, batch_id, lambda batch: batch["documents"]["succeeded"] >= 1)
        assert server.client.post(f"{place}/pause").json()["requested"] == "pause"
        paused = until(server, batch_id, lambda batch: batch["status"] == "paused")
        assert paused["documents"]["running"] == paused["nodes"]["running"] == 0
        assert server.client.post(f"{place}/resume").json()["requested"] is None
        more = paused["documents"]["succeeded"]
        until(server, batch_id, lambda batch: batch["documents"]["succeeded"] > more)
        server.client.post(f"{place}/cancel")
        ended = until_ended(server, batch_id)
        assert ended["status"] == "cancelled"
        assert ended["documents"]["succeeded"] + ended["documents"]["cancelled"] == 30
        assert server.client.post(f"{place}/resume").status_code == 409
        retried = server.client.post(f"{place}/retry", json={"cancelled": True}).json()["retried"]
        assert retried == ended["documents"]["cancelled"]
        assert until_ended(server, batch_id)["status"] == "succeeded"


def test_a_batch_is_read_as_its_template_says_unless_it_says_otherwise(thresher: Thresher) -> None:
    with web_server(documents) as web, running_server(thresher, **LOOPBACK) as server:
        wanted = {"name": "passengers", "options": {"paths": ["/PaxList/Pax"], "limit": 1, "priority": "low"}}
        template = server.client.post("/api/v1/templates/", json=wanted)
        assert template.status_code == 201, template.text
        assert server.client.post("/api/v1/templates/", json=wanted).status_code == 409
        batch = begun(server, urls=[f"{web.address}/1.xml"], template="passengers", options={"priority": "immediate"})
        assert (batch["priority"], batch["options"]["limit"]) == ("immediate", 1)
        ended = until_ended(server, batch["batch_id"])
        assert (ended["nodes"]["total"], ended["template"]) == (1, "passengers")
        place = f"/api/v1/templates/{template.json()['template_id']}"
        changed = server.client.put(place, json={"name": "people", "options": {"limit": 2}}).json()
        assert (changed["name"], changed["options"]) == ("people", {"limit": 2})
        assert [one["name"] for one in server.client.get("/api/v1/templates/").json()["data"]] == ["people"]
        assert server.client.delete("/api/v1/templates/people").status_code == 204
        assert server.client.get(place).status_code == 404


def test_two_workspaces_do_not_see_each_other_s_batches(server: RunningServer) -> None:
    batch_id = begun(server, urls=["http://192.0.2.1/a.xml"])["batch_id"]
    there = {"workspace": "other"}
    assert server.client.get(f"{BATCH}/{batch_id}", params=there).status_code == 404
    assert server.client.get(BATCH, params=there).json()["data"] == []


def test_onlookers_of_a_batch_see_its_documents_fetched_and_read_to_the_end(thresher: Thresher) -> None:
    may_answer = Event()

    def in_its_time(request: Request) -> tuple[int, dict[str, str], bytes]:
        may_answer.wait(GUARD)
        return documents(request)

    with (
        running_model_server(latency=0.2) as model,
        web_server(in_its_time) as web,
        running_server(thresher, **by_model(model, **LOOPBACK, FETCH_WORKERS="2")) as server,
    ):
        urls = [f"{web.address}/nothing", *(f"{web.address}/{number}.xml" for number in range(8))]
        batch_id = begun(server, urls=urls)["batch_id"]
        address = f"{server.websocket_address}/ws/batch/{batch_id}/progress"
        with connect(address, proxy=None) as connection:
            first = json.loads(connection.recv(timeout=GUARD))
            may_answer.set()
            states, code = until_closed(connection)
        assert code == 1000
        assert {state["documents"]["total"] for state in states} == {9}
        numbers = [state["number"] for state in states]
        assert numbers == sorted(set(numbers))
        assert [state["event"] for state in states] == [*["progress"] * (len(states) - 1), "finished"]
        assert (states[-1]["documents"]["succeeded"], states[-1]["facts"]) == (8, 16)
        assert states[-1]["line"] == f"Batch {batch_id}: 9 of 9 documents, 1 failed"
        assert first["documents"]["succeeded"] == 0
        run_id = documents_of(server, batch_id)[1]["run_id"]
        with looking_on(server, run_id) as connection:
            (end,), _ = until_closed(connection)
        assert end["batch"] == states[-1]["line"]
        with pytest.raises(InvalidStatus), connect(f"{address}?workspace=other", proxy=None):
            pass
