from __future__ import annotations

import socket
import time

import pytest
from observed import BEGAN, finished, item, started
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.collector import running_collector

from thresher.core.correlation import Correlation
from thresher.engine.resource_events import RequestEnded, RequestRefused
from thresher.engine.work import ItemStatus, RunStatus
from thresher.integrations.tracing import Tracing, exported, tracing_with

PLACE = Correlation("r1", item=7, attempt=1)
EARLY = BEGAN.timestamp()


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(memory: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return tracing_with(provider)


def by_name(memory: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in memory.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def test_a_run_holds_its_attempts_which_hold_their_requests_with_their_real_times(
    tracing: Tracing, memory: InMemorySpanExporter
) -> None:
    tracing.on_run(started())
    tracing.on_resource(RequestEnded("m", EARLY + 1.0, 0.75, 0.25, "TransientLLMError", PLACE))
    tracing.on_resource(RequestEnded("m", EARLY + 1.75, 0.5, 0.0, None, PLACE))
    tracing.on_resource(RequestEnded("m", EARLY, 0.5, 0.0, None, None))
    tracing.on_resource(RequestRefused("m", 1.0))
    tracing.on_run(item(ItemStatus.SUCCEEDED))
    tracing.on_run(item(ItemStatus.PENDING, "AnswerTruncated", item=8, attempt=2))
    tracing.on_run(finished(RunStatus.PARTIAL))
    spans = by_name(memory)
    [run], [good, bad], [first, second] = spans["run discovery"], spans["attempt"], spans["request"]
    assert {span.context.trace_id for span in memory.get_finished_spans()} == {run.context.trace_id}
    assert [span.parent.span_id for span in (good, bad)] == [run.context.span_id] * 2
    assert [span.parent.span_id for span in (first, second)] == [good.context.span_id] * 2
    assert (good.start_time, good.end_time) == (int(EARLY * 1e9), int((EARLY + 2) * 1e9))
    assert [first.start_time / 1e9, first.end_time / 1e9] == pytest.approx([EARLY + 0.25, EARLY + 1], rel=0, abs=1e-5)
    assert (first.status.status_code, first.attributes["error.type"]) == (StatusCode.ERROR, "TransientLLMError")
    assert (bad.attributes["thresher.item"], bad.attributes["thresher.attempt"]) == (8, 2)
    assert good.attributes["gen_ai.usage.input_tokens"] == 100
    assert (run.attributes["thresher.status"], run.status.status_code) == ("partial", StatusCode.ERROR)


def test_requests_of_attempts_that_never_end_here_are_not_kept(tracing: Tracing, memory: InMemorySpanExporter) -> None:
    tracing.on_run(started())
    tracing.on_resource(RequestEnded("m", EARLY, 0.5, 0.0, None, PLACE))
    tracing.on_run(finished())
    tracing.on_run(item(ItemStatus.SUCCEEDED))
    assert [span.name for span in memory.get_finished_spans()] == ["run discovery"]
    assert not tracing._requests


def test_spans_carry_no_text_of_errors_and_no_path(tracing: Tracing, memory: InMemorySpanExporter) -> None:
    tracing.on_run(started())
    tracing.on_run(item(ItemStatus.DEAD, "UnusableAnswer"))
    tracing.on_run(finished())
    told = " ".join(span.to_json() for span in memory.get_finished_spans())
    assert "Mustermann" not in told
    assert "/a/b" not in told


def test_a_collector_gets_them_over_http() -> None:
    with running_collector() as collector:
        with exported(collector.address + "/") as tracing:
            tracing.on_run(started())
            tracing.on_run(item(ItemStatus.SUCCEEDED))
            tracing.on_run(finished())
        assert collector.paths == {"/v1/traces"}
        assert sorted(span.name for span in collector.spans()) == ["attempt", "run discovery"]


def test_a_collector_that_is_away_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK by itself would give up only after 30 seconds."""
    monkeypatch.setattr("thresher.integrations.tracing.PATIENCE", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with exported(f"http://127.0.0.1:{free.getsockname()[1]}") as tracing:
            tracing.on_run(started())
            tracing.on_run(finished())
    assert time.monotonic() - began < 10
