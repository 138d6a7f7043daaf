"""Values that no database holds are the asker's mistake, on every database."""

from __future__ import annotations

import json

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
