"""Schedules that really fire, in real servers."""

from __future__ import annotations

import time
from typing import Any

from command import Thresher
from receiver import LOOPBACK, Request, web_server
from server import RunningServer, running_server

SCHEDULES = "/api/v1/schedules/"
DOCUMENT = b"<PaxList><Pax><Id>P1</Id></Pax></PaxList>"


def documents(_request: Request) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, DOCUMENT


def ended(server: RunningServer, count: int) -> list[dict[str, Any]]:
    """The batches that have ended, as soon as there are so many."""
    until = time.monotonic() + 60
    while True:
        found = [batch for batch in server.client.get("/api/v1/batch").json()["data"] if batch["finished_at"]]
        if len(found) >= count:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.1)


def test_a_schedule_fires_is_paused_and_deleted_and_goes_on_after_a_kill(thresher_on: Thresher) -> None:
    with web_server(documents) as web:
        with running_server(thresher_on, **LOOPBACK) as server:
            wanted = {"name": "often", "expression": "* * * * * *", "urls": [f"{web.address}/a.xml"]}
            answer = server.client.post("/api/v1/batch/schedule", json={**wanted, "time_zone": "Europe/Berlin"})
            assert answer.status_code == 201, answer.text
            schedule = answer.json()
            assert len(schedule["next_firings"]) == 5
            first = ended(server, 1)
            assert first[0]["schedule_id"] == schedule["schedule_id"]
            assert first[0]["status"] == "succeeded"
            server.kill()
        time.sleep(3)  # firings are missed
        with running_server(thresher_on, **LOOPBACK) as server:
            ended(server, len(first) + 2)
            place = f"{SCHEDULES}{schedule['schedule_id']}"
            paused = server.client.post(f"{place}/pause").json()
            assert (paused["is_paused"], paused["next_firings"]) == (True, [])
            assert server.client.get(SCHEDULES).json()["data"][0]["last_batch_id"] is not None
            assert server.client.delete(place).status_code == 204
            assert server.client.get(place).status_code == 404


def test_what_cannot_be_scheduled_is_refused(thresher: Thresher) -> None:
    with running_server(thresher) as server:
        wanted = {"name": "x", "expression": "30 6 * * MON", "urls": ["http://192.0.2.1/a.xml"]}
        for wrong in ({"expression": "often"}, {"time_zone": "Mars"}, {"urls": []}, {"template": "none"}):
            answer = server.client.post(SCHEDULES, json={**wanted, **wrong})
            assert answer.status_code in {404, 422}, answer.text
        shown = server.client.get(f"{SCHEDULES}preview", params={"expression": "30 6 * * MON", "time_zone": "UTC"})
        assert len(shown.json()["next_firings"]) == 5
        stored = server.client.post(SCHEDULES, json=wanted).json()
        changed = server.client.put(f"{SCHEDULES}{stored['schedule_id']}", json={**wanted, "expression": "0 7 * * *"})
        assert changed.json()["expression"] == "0 7 * * *"
