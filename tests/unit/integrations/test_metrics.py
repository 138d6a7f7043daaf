from __future__ import annotations

import socket
import threading
import time
import urllib.request

import pytest
from observed import finished, item, snapshot, started

from thresher.core.errors import BadConfiguration, RateLimited
from thresher.engine.admission import ResourceLimits
from thresher.engine.breaker import Circuit
from thresher.engine.gate import Resources
from thresher.engine.progress import ItemsPlanned
from thresher.engine.resource_events import CircuitChanged, RequestEnded, RequestRefused
from thresher.engine.work import ItemStatus, RunStatus, Usage
from thresher.integrations.metrics import Metrics, served


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_runs_items_attempts_and_facts_are_counted() -> None:
    metrics = Metrics()
    for event in (
        started(0),
        ItemsPlanned("r1", snapshot(3)),
        item(ItemStatus.PENDING, "TransientLLMError", usage=Usage(1, 100, 0, 0, None)),
        item(ItemStatus.SUCCEEDED),
        item(ItemStatus.DEAD, "ZeroDivisionError"),
        item(ItemStatus.PENDING, "Interrupted"),
    ):
        metrics.on_run(event)
    of_kind = {"kind": "discovery"}
    assert value(metrics, "thresher_runs_active", **of_kind) == 1
    assert value(metrics, "thresher_items_open", **of_kind) == 2
    assert value(metrics, "thresher_items_finished_total", status="succeeded", **of_kind) == 1
    assert value(metrics, "thresher_items_finished_total", status="dead", **of_kind) == 1
    outcomes = [("succeeded", ""), ("failed", "TransientLLMError"), ("failed", "other"), ("interrupted", "Interrupted")]
    for outcome, error in outcomes:
        assert value(metrics, "thresher_attempts_total", outcome=outcome, error=error, **of_kind) == 1
    assert value(metrics, "thresher_attempt_duration_seconds_sum", **of_kind) == 8.0
    assert value(metrics, "thresher_facts_total", **of_kind) == 2
    metrics.on_run(finished(RunStatus.PARTIAL))
    assert value(metrics, "thresher_runs_finished_total", status="partial", **of_kind) == 1
    assert value(metrics, "thresher_runs_active", **of_kind) == 0
    assert value(metrics, "thresher_items_open", **of_kind) == 0


def test_what_was_paid_is_summed_and_an_unknown_price_is_not_taken_for_nothing() -> None:
    metrics = Metrics()
    metrics.on_run(started())
    metrics.on_run(item(ItemStatus.SUCCEEDED))
    metrics.on_run(item(ItemStatus.SUCCEEDED, usage=Usage(2, 10, 5, 0, None, cache_hits=3)))
    tokens = {kind: value(metrics, "thresher_tokens_total", type=kind) for kind in ("prompt", "completion", "cached")}
    assert tokens == {"prompt": 110, "completion": 25, "cached": 50}
    assert value(metrics, "thresher_requests_total") == 3
    assert value(metrics, "thresher_cost_usd_total") == 0.25
    assert value(metrics, "thresher_attempts_unpriced_total") == 1
    assert value(metrics, "thresher_cache_hits_total") == 3


def test_requests_waits_refusals_and_openings_are_counted_per_resource() -> None:
    metrics = Metrics()
    for event in (
        RequestEnded("m", 0.0, 0.5, 0.25, None, None),
        RequestEnded("m", 0.0, 1.5, 0.0, "RateLimited", None),
        RequestRefused("m", 2.0),
        CircuitChanged("m", Circuit.CLOSED, Circuit.OPEN),
        CircuitChanged("m", Circuit.OPEN, Circuit.HALF_OPEN),
    ):
        metrics.on_resource(event)
    assert value(metrics, "thresher_request_duration_seconds_sum", resource="m", error="") == 0.5
    assert value(metrics, "thresher_request_duration_seconds_count", resource="m", error="RateLimited") == 1
    assert value(metrics, "thresher_permit_wait_seconds_sum", resource="m") == 0.25
    assert value(metrics, "thresher_rate_limited_total", resource="m") == 1
    assert value(metrics, "thresher_circuit_openings_total", resource="m") == 1


def test_the_state_of_gates_is_read_when_it_is_asked_for() -> None:
    metrics = Metrics()
    for _again in range(2):  # whoever is watched last counts
        resources = Resources(default=ResourceLimits(concurrency=8), listeners=[metrics.on_resource])
        metrics.watch(resources, lambda: 5)
    with resources.gate("m").permit():
        assert value(metrics, "thresher_requests_in_flight", resource="m") == 1
    assert value(metrics, "thresher_requests_in_flight", resource="m") == 0
    assert value(metrics, "thresher_concurrency_limit", resource="m") == 8
    assert value(metrics, "thresher_circuit_state", resource="m") == 0
    assert value(metrics, "thresher_items_running") == 5
    with pytest.raises(RateLimited), resources.gate("m").permit():
        raise RateLimited("x", retry_after=1.0)
    assert value(metrics, "thresher_rate_limited_total", resource="m") == 1


def test_the_page_is_there_while_it_is_served_and_gone_with_its_thread_afterwards() -> None:
    metrics, before = Metrics(), set(threading.enumerate())
    with served(metrics.registry, "127.0.0.1", 0) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            assert b"# TYPE thresher_requests_total counter" in page.read()
        with pytest.raises(BadConfiguration, match=rf"METRICS_PORT: 127\.0\.0\.1:{port} cannot be listened on"):
            served(metrics.registry, "127.0.0.1", port).__enter__()
    deadline = time.monotonic() + 30
    while begun := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, begun
        time.sleep(0.01)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_no_label_takes_what_is_unbounded() -> None:
    metrics = Metrics()
    metrics.on_run(started())
    metrics.on_run(item(ItemStatus.DEAD, "Mustermann"))
    labels = {
        text
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith("thresher_")
        for text in sample.labels.values()
    }
    assert not {text for text in labels if text in ("r1", "/a/b[1]", "7") or "Muster" in text}
