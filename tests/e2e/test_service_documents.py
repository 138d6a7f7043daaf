"""Documents and node configurations over HTTP: looked at, estimated, configured, read as configured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from command import BUNDLED, Thresher
from server import XML, RunningServer, running_server

CONFIGURATIONS = "/api/v1/node-configurations/"
DOCUMENT = b"<PaxList><Pax><Id>P1</Id></Pax><Pax><Id>P2</Id></Pax><Bag><Weight>7</Weight></Bag></PaxList>"


@pytest.fixture
def server(thresher_on: Thresher) -> Iterator[RunningServer]:
    with running_server(thresher_on) as server:
        yield server


def analysed(server: RunningServer, content: bytes, name: str = "pax.xml") -> dict[str, Any]:
    answer = server.client.post("/api/v1/documents/analyse", files={"file": (name, content, XML)})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def configured(server: RunningServer, **node: Any) -> dict[str, Any]:
    answer = server.client.post(CONFIGURATIONS, json=node)
    assert answer.status_code == 201, answer.text
    stored: dict[str, Any] = answer.json()
    return stored


def test_a_document_is_looked_at_estimated_and_read(server: RunningServer) -> None:
    seen = analysed(server, BUNDLED.read_bytes(), "OrderViewRS.xml")
    assert (seen["root"], seen["version"], seen["complete"]) == ("OrderViewRS", "19.2", True)
    pax = next(path for path in seen["paths"] if path["path"].endswith("/PaxList/Pax"))
    assert pax["count"] > 0
    assert pax["bytes_min"] <= pax["bytes_median"] <= pax["bytes_max"] <= pax["bytes_total"]
    assert seen["would_read"] == seen["chosen"]
    place = f"/api/v1/documents/{seen['source_id']}"
    assert server.client.get(f"{place}/analysis").json() == seen
    estimate = server.client.post(f"{place}/estimate", json={"paths": ["DataLists/PaxList/Pax"]}).json()
    assert (estimate["nodes_total"], estimate["provider"]) == (pax["count"], "structural")
    begun = server.client.post(f"{place}/runs", json={"paths": ["DataLists/PaxList/Pax"]})
    assert begun.status_code == 202
    assert server.until_ended(begun.json()["run_id"])["subtrees_processed"] == pax["count"]


def test_runs_are_read_as_the_workspace_has_it_configured(server: RunningServer) -> None:
    configured(server, path="PaxList/Pax", message="PaxList")
    configured(server, path="PaxList/Bag", message="Other")
    seen = analysed(server, DOCUMENT)
    assert [node["path"] for node in seen["nodes"]] == seen["would_read"] == ["PaxList/Pax"]
    ended = server.upload(DOCUMENT, query={"wait": 60}).json()
    assert (ended["status"], ended["subtrees_processed"]) == ("succeeded", 2)
    told = server.upload(DOCUMENT, query={"wait": 60}, paths="/PaxList/Bag").json()
    assert told["subtrees_processed"] == 1
    without = server.upload(DOCUMENT, query={"wait": 60}, stored_nodes="false").json()
    report = server.client.get(f"/api/v1/runs/{without['run_id']}/report").json()
    assert report["paths"] == seen["chosen"]


def test_a_workspace_whose_configurations_fit_no_document_reads_it_as_without(server: RunningServer) -> None:
    configured(server, path="Elsewhere/Thing", message="Other")
    assert server.upload(DOCUMENT, query={"wait": 60}).json()["status"] == "succeeded"


def test_a_configuration_is_stored_once_changed_and_deleted(server: RunningServer) -> None:
    stored = configured(server, path="A/B", version="19.2", schema={"type": "object", "properties": {}})
    twice = server.client.post(CONFIGURATIONS, json={"path": "A/B", "version": "19.2"})
    assert (twice.status_code, twice.json()["type"]) == (409, "/problems/state-conflict")
    other = configured(server, path="A/C", instructions="Read it.")
    place = f"{CONFIGURATIONS}{other['id']}"
    assert server.client.put(place, json={"path": "A/B", "version": "19.2"}).status_code == 409
    changed = server.client.put(place, json={"path": "A/C", "enabled": False}).json()
    assert (changed["id"], changed["enabled"], changed["instructions"]) == (other["id"], False, None)
    assert server.client.get(CONFIGURATIONS, params={"version": "19.2"}).json()["data"] == [stored]
    first = server.client.get(CONFIGURATIONS, params={"limit": 1}).json()
    assert server.client.get(CONFIGURATIONS, params={"cursor": first["next"]}).json()["data"] == [changed]
    assert server.client.delete(place).status_code == 204
    assert server.client.get(place).status_code == 404
    assert server.client.post(CONFIGURATIONS, json={"path": "A[", "version": "1"}).status_code == 422


def test_configurations_are_copied_to_other_versions(server: RunningServer) -> None:
    for path in ("A/B", "A/C"):
        configured(server, path=path, message="M", version="19.2", instructions="old")
    configured(server, path="A/B", message="M", version="21.3", instructions="own")
    wanted = {"message": "M", "version": "19.2", "to_versions": ["19.2", "21.3", "24.1"]}
    assert server.client.post(f"{CONFIGURATIONS}copy", json=wanted).json() == {"copied": 3, "kept": 1}
    of_21 = server.client.get(CONFIGURATIONS, params={"version": "21.3"}).json()["data"]
    assert {node["path"]: node["instructions"] for node in of_21} == {"A/B": "own", "A/C": "old"}
    again = server.client.post(f"{CONFIGURATIONS}copy", json={**wanted, "replace": True}).json()
    assert again == {"copied": 4, "kept": 0}


def test_what_is_exported_can_be_imported_elsewhere(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    configured(server, path="A/B", version="19.2", sender="ZZ", instructions="Übergepäck: ja", schema=schema)
    configured(server, path="A/C", enabled=False)
    exported = server.client.get(f"{CONFIGURATIONS}export")
    assert exported.headers["content-type"].startswith("application/yaml")
    there = {"workspace": "other"}
    configured_there = server.client.post(CONFIGURATIONS, json={"path": "Old"}, params=there)
    assert configured_there.status_code == 201
    place, wanted = f"{CONFIGURATIONS}import", {**there, "replace_all": True}
    answer = server.client.post(place, content=exported.content, params=wanted)
    assert answer.json() == {"imported": 2}
    assert server.client.get(f"{CONFIGURATIONS}export", params=there).text == exported.text
    broken = server.client.post(place, content=b"nodes:\n  - path: A\n    colour: red\n", params=wanted)
    assert broken.status_code == 422
    assert "line 3, nodes[0].colour" in broken.json()["detail"]
    assert server.client.get(f"{CONFIGURATIONS}export", params=there).text == exported.text, "all or none"


def test_a_document_is_kept_while_it_has_runs(server: RunningServer) -> None:
    seen = analysed(server, DOCUMENT)
    place = f"/api/v1/documents/{seen['source_id']}"
    run_id = server.client.post(f"{place}/runs", json={}).json()["run_id"]
    server.until_ended(run_id)
    assert server.client.delete(place).status_code == 409
    assert [one["source_id"] for one in server.client.get("/api/v1/documents/").json()["data"]] == [seen["source_id"]]
    assert server.client.delete(f"/api/v1/runs/{run_id}").status_code == 204
    assert server.client.get(place).status_code == 404, "it goes with its last run"
