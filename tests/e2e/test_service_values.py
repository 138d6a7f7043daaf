"""Values that no database holds are the asker's mistake, on every database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from command import Thresher
from server import running_server

NUL, HALF = "\0", "\ud800"
HUGE = 10**30


@pytest.fixture
def quiet(thresher_on: Thresher) -> Thresher:
    """Defects are logged to a file: nobody reads what a server says on stderr."""
    return Thresher(thresher_on.folder, {**thresher_on.environment, "LOG_FILE": str(thresher_on.folder / "log")})


def test_values_that_cannot_be_looked_for_are_no_defect(quiet: Thresher) -> None:
    with running_server(quiet) as server:
        run_id = server.upload(b"<a><b>1</b><b>2</b></a>", query={"wait": 30}).json()["run_id"]
        run = f"/api/v1/runs/{run_id}"
        answers = {
            address: server.client.get(address).status_code
            for address in (
                "/api/v1/runs/%00",
                *(f"/api/v1/runs/?{name}=%00" for name in ("cursor", "kind", "source_id")),
                "/api/v1/runs/?created_from=0001-01-01T00:00:00%2B14:00",
                "/api/v1/runs/?created_before=9999-12-31T23:59:59-14:00",
                *(f"{run}/facts?{name}=%00" for name in ("path", "type")),
                *(f"{run}/items/{number}" for number in (HUGE, -HUGE, 2**63, 2**63 - 1, 2**31, 0)),
                f"{run}/items/{HUGE}/attempts",
                f"{run}/dead-letters?error_class=%00",
                f"{run}/items?cursor={'9' * 40}-{'9' * 18}",
            )
        }
        for body in ({"items": [NUL]}, {"items": [HALF]}, {"items": ["9" * 30]}, {"error_classes": [NUL, HALF]}):
            answer = server.client.post(
                f"{run}/retry", content=json.dumps(body), headers={"Content-Type": "application/json"}
            )
            answers[str(body)] = answer.status_code
        for name, value in (("paths", NUL), ("source", NUL), ("options", NUL)):
            answers[name] = server.client.post("/api/v1/runs/", files={name: (None, value)}).status_code
        answers["name"] = server.upload(b"<a/>", NUL + HALF.encode("utf-8", "replace").decode()).status_code
        answers["paths of a document"] = server.upload(b"<a/>", paths=NUL).status_code
        for secret in (b"\xff\xfe", b"thr_\xc3\x28"):
            headers = {"Authorization": b"Bearer " + secret}
            answers[str(secret)] = server.client.get("/api/v1/runs/", headers=headers).status_code
        assert {asked: status for asked, status in answers.items() if status >= 500} == {}
        assert (quiet.folder / "log").read_text("utf-8").count("request failed") == 0


def test_values_that_cannot_be_stored_are_no_defect(quiet: Thresher) -> None:
    """Each text of each body in turn, with characters that one database or the other refuses: so do we."""
    configuration = {
        "path": "a/b",
        "message": "a",
        "version": "1",
        "sender": "s",
        "instructions": "Read it.",
        "schema": {"type": "object", "properties": {"x": {"type": "string", "description": "what"}}},
    }
    document = {"url": "https://example.com/a.xml", "name": "a"}
    with running_server(quiet) as server:
        server.upload(b"<a><b>1</b></a>", query={"wait": 30})
        made = server.client.post("/api/v1/node-configurations/", json={**configuration, "path": "a/c"}).json()["id"]
        bodies: dict[tuple[str, str], dict[str, Any]] = {
            ("POST", "/api/v1/node-configurations/"): configuration,
            ("PUT", f"/api/v1/node-configurations/{made}"): {**configuration, "path": "a/d"},
            ("POST", "/api/v1/node-configurations/copy"): {
                **{name: configuration[name] for name in ("message", "version", "sender", "path")},
                "to_versions": ["2"],
            },
            ("POST", "/api/v1/templates/"): {
                "name": "t",
                "description": "d",
                "options": {"paths": ["a/b"], "nodes": [configuration], "budget": "$1"},
            },
            ("POST", "/api/v1/batch"): {"name": "b", "template": "t", "documents": [document]},
            ("POST", "/api/v1/schedules/"): {
                "name": "s",
                "expression": "0 0 1 1 *",
                "time_zone": "UTC",
                "template": "t",
                "documents": [document],
            },
            ("POST", "/api/v1/channels/"): {
                "name": "c",
                "kind": "webhook",
                "target": "https://example.com/hook",
                "secret": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0",
            },
        }
        answers = {}
        for (method, address), body in bodies.items():
            assert server.client.request(method, address, json=body).status_code in (200, 201, 202), address
            for bad in (NUL, HALF):
                for place, spoilt in _each_text_spoilt(body, bad):
                    headers = {"Content-Type": "application/json"}
                    answer = server.client.request(method, address, content=json.dumps(spoilt), headers=headers)
                    answers[method, address, place] = answer.status_code
        assert {asked: status for asked, status in answers.items() if not 400 <= status < 500} == {}
        assert (quiet.folder / "log").read_text("utf-8").count("request failed") == 0


def _each_text_spoilt(body: Any, bad: str) -> Iterator[tuple[str, Any]]:
    """Copies of ``body``, each with one text (a name in an object, too) that ends with ``bad``."""
    if isinstance(body, str):
        yield repr(bad), body + bad
    elif isinstance(body, list):
        for index, value in enumerate(body):
            for place, spoilt in _each_text_spoilt(value, bad):
                yield f"{index}.{place}", [*body[:index], spoilt, *body[index + 1 :]]
    elif isinstance(body, dict):
        for name, value in body.items():
            yield f"{name}{bad!r}", {**body, name + bad: value}
            for place, spoilt in _each_text_spoilt(value, bad):
                yield f"{name}.{place}", {**body, name: spoilt}
