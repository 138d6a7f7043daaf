"""A run at the limit of a real server, and one whose server goes away."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from command import GUARD, Thresher, end, until_held
from test_discover import PAX, by_model, pax_document

from thresher.testing.model_server import running_model_server

RATE, ITEMS = 60, 150


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("told", "workers"),
    [({"rate_headers": True, "retry_after": True}, 64), ({"rate_headers": True}, 64), ({}, 64), ({}, 10)],
)
def test_no_node_fails_at_the_limit_and_few_requests_are_refused(
    thresher: Thresher, tmp_path: Path, told: dict[str, bool], workers: int
) -> None:
    burst = max(RATE, workers)  # of a machine that stands still a moment all come at once
    with running_model_server(rate=RATE, burst=burst, latency=0.05, **told) as server:
        document = pax_document(tmp_path, ITEMS)
        done = thresher("discover", document, *PAX, "--workers", str(workers), "--json", **by_model(server))
        stats = server.stats()
    assert done.code == 0, done.err
    assert done.json["subtrees_processed"] == ITEMS
    assert stats["rate_limited"] <= 0.15 * ITEMS  # a busy machine hears of the limit late; make bench holds the figures
    assert stats["too_early"] <= 2
    assert done.json["requests"] == ITEMS + stats["rate_limited"]


def test_a_limit_that_is_set_is_never_met(thresher: Thresher, tmp_path: Path) -> None:
    burst = 24  # all 16 workers at once and what is made up for after a moment of standing still: 22
    with running_model_server(rate=RATE, burst=burst, latency=0.02) as server:
        settings = {**by_model(server), "REQUESTS_PER_MINUTE": str(60 * RATE * 0.9)}
        done = thresher("discover", pax_document(tmp_path, 60), *PAX, "--workers", "16", "--json", **settings)
        assert server.stats()["rate_limited"] == 0
    assert done.code == 0, done.err


def test_nodes_wait_while_the_server_is_away(thresher: Thresher, tmp_path: Path) -> None:
    port = free_port()
    document = pax_document(tmp_path, 60)
    with running_model_server(port=port) as server:
        server.hold(after=11)
        settings = {**by_model(server), "BREAKER_OPEN_SECONDS": "0.5", "RETRY_BASE_SECONDS": "0.1"}
        process = thresher.start("discover", document, *PAX, "--workers", "4", "--json", **settings)
        until_held(server, process)
    time.sleep(2.0)  # the server is gone for so long
    assert process.poll() is None
    with running_model_server(port=port, latency=0.01):
        out, err = process.communicate(timeout=GUARD)
    assert process.returncode == 0, err
    assert '"subtrees_processed": 60' in out


def test_a_server_that_stays_away_ends_the_run_which_can_go_on_later(thresher: Thresher, tmp_path: Path) -> None:
    port = free_port()
    document = pax_document(tmp_path, 40)
    with running_model_server(port=port) as server:
        server.hold(after=11)
        settings = {
            **by_model(server),
            "BREAKER_OPEN_SECONDS": "0.3",
            "RETRY_BASE_SECONDS": "0.1",
            "RESOURCE_PATIENCE_SECONDS": "1.5",
        }
        process = thresher.start("discover", document, *PAX, "--workers", "4", **settings)
        until_held(server, process)
    try:
        _, err = process.communicate(timeout=GUARD)
    finally:
        end(process)
    assert process.returncode == 1, err
    assert "has answered nothing for too long" in err
    (run,) = thresher("runs", "--json").json
    assert run["status"] == "failed"
    with running_model_server(port=port):
        done = thresher("resume", run["run_id"], "--json", **settings)
    assert done.code == 0, done.err
    assert done.json["subtrees_processed"] == 40
    assert done.json["nodes_failed"] == 0


def test_a_late_request_at_the_end_is_sent_twice_and_both_are_counted(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server(latency=0.1, error_500=0.02, seed=0) as server:  # of the 80 it fails one
        server.hold(after=80)
        settings = {**by_model(server), "HEDGE_REQUESTS": "true", "HEDGE_PERCENTILE": "80"}
        document = pax_document(tmp_path, 80)
        process = thresher.start("discover", document, *PAX, "--workers", "100", "--json", **settings)
        until_held(server, process, 2)  # its second try, which comes when there is room, and the same once more
        server.release()
        out, err = process.communicate(timeout=GUARD)
        stats = server.stats()
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["subtrees_processed"] == 80
    assert stats["error_500"] >= 1, "the seed has to fail one; on a slow machine others are late, too"
    assert result["requests"] == stats["requests"] > 81
