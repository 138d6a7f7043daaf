"""Who gets in, to what, how often; and what everybody else is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from command import Thresher
from server import RunningServer, running_server

SMALL = b"<PaxList><Pax><Id>P1</Id></Pax></PaxList>"


def key(thresher: Thresher, *options: str) -> str:
    made = thresher("keys", "create", "test", *options)
    assert made.code == 0, made.err
    return made.out.strip()


def problem(answer: httpx2.Response, status: int, name: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    found: dict[str, Any] = answer.json()
    assert (answer.status_code, found["status"], found["type"]) == (status, status, f"/problems/{name}"), answer.text
    assert found["title"]
    assert found["detail"]
    assert found["action"]
    return found


@pytest.fixture
def server(thresher: Thresher) -> Iterator[RunningServer]:
    with running_server(thresher) as server:
        yield server


def test_without_keys_no_other_address_is_served(thresher: Thresher) -> None:
    refused = thresher("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 # it must not
    assert refused.code == 2
    assert "thresher keys create" in refused.err


def test_the_first_key_closes_the_door(thresher: Thresher, server: RunningServer) -> None:
    assert server.client.get("/api/v1/runs/").status_code == 200
    secret = key(thresher)
    answer = server.client.get("/api/v1/runs/")
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    bearer = {"Authorization": f"Bearer {secret}"}
    assert server.client.get("/api/v1/runs/", headers=bearer).status_code == 200
    (listed,) = thresher("keys", "list", "--json").json
    assert listed["last_used_at"] is not None
    assert secret not in str(listed)
    assert thresher("keys", "revoke", listed["key_id"]).code == 0
    problem(server.client.get("/api/v1/runs/", headers=bearer), 401, "unauthenticated")
    problem(server.client.get("/api/v1/runs/"), 401, "unauthenticated")


def test_what_belongs_to_another_workspace_is_not_there(thresher: Thresher) -> None:
    ours, theirs = key(thresher, "--workspace", "ours"), key(thresher, "--workspace", "theirs")
    with running_server(thresher, key=ours) as server:
        run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
        foreign = {"Authorization": f"Bearer {theirs}"}
        for method, address in (
            ("GET", ""),
            ("GET", "/report"),
            ("GET", "/items"),
            ("GET", "/facts"),
            ("GET", "/dead-letters"),
            ("POST", "/cancel"),
            ("DELETE", ""),
        ):
            answer = server.client.request(method, f"/api/v1/runs/{run_id}{address}", headers=foreign)
            problem(answer, 404, "not-found")
        assert server.client.get("/api/v1/runs/", headers=foreign).json()["data"] == []
        problem(server.client.get("/api/v1/runs/", params={"workspace": "theirs"}), 404, "not-found")
        assert server.run(run_id)["workspace"] == "ours"


def test_a_key_to_read_changes_nothing(thresher: Thresher) -> None:
    with running_server(thresher, key=key(thresher, "--role", "read")) as server:
        assert server.client.get("/api/v1/runs/").status_code == 200
        problem(server.upload(SMALL), 403, "forbidden")


def test_a_key_has_its_rate_and_its_largest_document(thresher: Thresher) -> None:
    secret = key(thresher, "--requests-per-minute", "3", "--max-upload-bytes", "100")
    with running_server(thresher, key=secret) as server:
        problem(server.upload(b"<a>" + b"x" * 200 + b"</a>"), 413, "too-large")
        assert [server.client.get("/api/v1/runs/").status_code for _ in range(3)] == [200, 200, 429]
        answer = server.client.get("/api/v1/runs/")
        problem(answer, 429, "too-many-requests")
        assert 0 < int(answer.headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    ("content", "status", "name"),
    [
        (b"", 422, "malformed-document"),
        (b"  \n ", 422, "malformed-document"),
        (b"PK\x03\x04rest", 415, "unsupported-media-type"),
        (b"%PDF-1.7", 415, "unsupported-media-type"),
        (b'{"a": 1}', 415, "unsupported-media-type"),
        (b"<?xml version='1.0' encoding='klingon'?><a/>", 422, "malformed-document"),
    ],
)
def test_what_is_no_document_is_refused_at_once(server: RunningServer, content: bytes, status: int, name: str) -> None:
    assert "x.xml" in problem(server.upload(content, "x.xml"), status, name)["detail"]


def test_options_that_cannot_be_used_are_named(server: RunningServer) -> None:
    bad = server.upload(SMALL, limit="many", mode="fast", colour="red")
    places = {error["place"] for error in problem(bad, 422, "invalid-request")["errors"]}
    assert places == {"form.limit", "form.mode", "form.colour"}
    problem(server.upload(SMALL, options="{"), 422, "invalid-request")
    problem(server.upload(SMALL, options="{}", limit="1"), 422, "bad-input")
    problem(server.upload(SMALL, query={"kind": "divination"}), 422, "bad-input")


def test_a_body_that_is_no_form_is_refused(server: RunningServer) -> None:
    post = server.client.post
    problem(post("/api/v1/runs/", json={}), 415, "unsupported-media-type")
    problem(post("/api/v1/runs/", data={"paths": "a"}, files={"other": ("a.xml", SMALL)}), 422, "bad-input")
    torn = {
        "content": b"--x\r\nContent-Disposition: form",
        "headers": {"content-type": "multipart/form-data; boundary=x"},
    }
    problem(post("/api/v1/runs/", **torn), 422, "bad-input")


def test_unknown_addresses_and_methods_are_problems_too(server: RunningServer) -> None:
    problem(server.client.get("/nowhere"), 404, "not-found")
    problem(server.client.get("/api/v1/runs/r00000000000x"), 404, "not-found")
    problem(answer := server.client.put("/api/v1/runs/"), 405, "method-not-allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}
    assert all(server.client.get(one["type"]).json() == one for one in server.client.get("/problems/").json())


def test_health_readiness_and_figures_need_no_key(thresher: Thresher) -> None:
    key(thresher)
    with running_server(thresher) as server:
        assert server.client.get("/health").json() == {"status": "ok"}
        assert server.client.get("/ready").json()["ready"]
        assert "thresher_items_running" in server.client.get("/metrics").text
        assert server.client.get("/openapi.json").json()["openapi"].startswith("3.1")
