"""Law 14: whoever else asks is answered during a run, whatever its workers do."""

from __future__ import annotations

import time

from command import Thresher
from server import RunningServer, running_server
from test_service_runs import PATH, by_model, message

from thresher.testing.model_server import running_model_server

WORKERS = 64
EVERYBODYS = ("/health", "/api/v1/runs/", "/runs", "/metrics", "/ready")


def in_hand(server: RunningServer, run_id: str) -> int:
    found = server.run(run_id)["nodes"]["running"]
    return int(found)


def test_while_all_workers_wait_for_a_silent_model_everybody_else_is_answered(thresher: Thresher) -> None:
    many = {"MAX_PARALLEL_NODES": str(WORKERS), "ADAPTIVE_CONCURRENCY": "false", "REQUEST_TIMEOUT_SECONDS": "120"}
    with running_model_server(hang=1.0) as model, running_server(thresher, **by_model(model, **many)) as server:
        run_id = server.upload(message(2 * WORKERS), paths=PATH).json()["run_id"]
        until = time.monotonic() + 60
        while model.stats()["requests"] < WORKERS:
            assert time.monotonic() < until, model.stats()
            time.sleep(0.05)
        for address in EVERYBODYS * 20:
            answer = server.client.get(address)
            assert answer.status_code == 200, (address, answer.text)
        assert model.stats()["requests"] == WORKERS, "none of them was answered meanwhile"
        assert in_hand(server, run_id) >= WORKERS
        server.kill()


def test_while_workers_work_as_fast_as_they_can_many_are_answered(thresher: Thresher) -> None:
    """A loop that waited for a worker would answer once or twice; how soon is shown by a benchmark."""
    with running_server(thresher, MAX_PARALLEL_NODES=str(WORKERS)) as server:
        run_id = server.upload(message(6_000), paths=PATH).json()["run_id"]
        answered = 0
        while server.run(run_id)["finished_at"] is None:
            for _ in range(5):
                assert server.client.get("/health").status_code == 200
                answered += 1
        assert server.until_ended(run_id)["subtrees_processed"] == 6_000
        assert answered >= 30
