"""OpenTelemetry spans: a run, its attempts, their requests.

Spans are made when something has ended, with the times of its beginning and end, out of the same events that logs and
metrics come from. They carry identifiers, numbers, states and names of error classes; no text of documents, answers or
errors.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from thresher.engine.progress import Event, ItemFinished, RunFinished, RunStarted
from thresher.engine.resource_events import RequestEnded, ResourceEvent
from thresher.engine.work import RunReport, RunStatus, Usage

TRACES = "/v1/traces"  # below the endpoint, https://opentelemetry.io/docs/specs/otel/protocol/exporter/
PATIENCE = 5.0  # seconds that the end of a process waits for the collector
_NANO = 1_000_000_000
_FAILED = (RunStatus.FAILED, RunStatus.PARTIAL)

Attributes = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Which attempt a request belongs to."""

    run_id: str
    item: int | None
    attempt: int | None


class Tracing:
    """Turns events into spans: ``on_run`` and ``on_resource`` are listeners, called from any thread."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._lock = Lock()  # protects all below
        self._runs: dict[str, Span] = {}
        self._requests: defaultdict[_Attempt, list[RequestEnded]] = defaultdict(list)  # of attempts under way

    def on_run(self, event: Event) -> None:
        """Begins and ends the span of a run, makes those of attempts."""
        match event:
            case RunStarted():
                self._start(event)
            case ItemFinished():
                self._attempt(event)
            case RunFinished():
                self._finish(event.report)

    def on_resource(self, event: ResourceEvent) -> None:
        """Keeps a request until the attempt that it was sent for has ended."""
        if isinstance(event, RequestEnded) and event.place is not None:
            attempt = _Attempt(event.place.run_id, event.place.item, event.place.attempt)
            with self._lock:
                if attempt.run_id in self._runs:
                    self._requests[attempt].append(event)

    def _start(self, event: RunStarted) -> None:
        run = event.run
        attributes: dict[str, str | int] = {
            "thresher.run_id": run.run_id,
            "thresher.kind": run.kind,
            "thresher.mode": str(event.mode),
            "thresher.workers": event.workers,
            "thresher.provider": run.provider or "",
            "thresher.model": run.model or "",
        }
        span = self._tracer.start_span(f"run {run.kind}", attributes=attributes)
        with self._lock:
            self._runs[run.run_id] = span

    def _attempt(self, event: ItemFinished) -> None:
        with self._lock:
            run = self._runs.get(event.run_id)
            requests = self._requests.pop(_Attempt(event.run_id, event.item, event.attempt), [])
        if run is None:
            return
        began = _nanoseconds(event.started_at.timestamp() if event.started_at else time.time() - event.duration)
        span = self._span("attempt", run, (began, SpanKind.INTERNAL), _of_attempt(event), event.error_class)
        for request in requests:
            self._request(request, span)
        span.end(began + _nanoseconds(event.duration))

    def _request(self, event: RequestEnded, parent: Span) -> None:
        ended = _nanoseconds(event.ended_at)
        attributes: Attributes = {"thresher.resource": event.resource, "thresher.waited_seconds": event.waited}
        when = (ended - _nanoseconds(event.seconds), SpanKind.CLIENT)
        self._span("request", parent, when, attributes, event.error_class).end(ended)

    def _span(
        self, name: str, parent: Span, when: tuple[int, SpanKind], attributes: Attributes, error_class: str | None
    ) -> Span:
        context = set_span_in_context(parent)
        span = self._tracer.start_span(name, context, kind=when[1], start_time=when[0], attributes=attributes)
        if error_class is not None:
            span.set_attribute("error.type", error_class)
            span.set_status(Status(StatusCode.ERROR))
        return span

    def _finish(self, report: RunReport) -> None:
        with self._lock:
            span = self._runs.pop(report.run_id, None)
            for attempt in [one for one in self._requests if one.run_id == report.run_id]:
                del self._requests[attempt]  # of attempts that were taken over by another process
        if span is None:
            return
        counts = report.counts
        span.set_attributes({"thresher.status": str(report.status), "thresher.items": counts.total})
        span.set_attributes({"thresher.succeeded": counts.succeeded, "thresher.dead": counts.dead})
        if report.status in _FAILED:
            span.set_status(Status(StatusCode.ERROR))
        if report.error is not None:
            span.set_attribute("error.type", str(report.error["class"]))
        span.end()


def _of_attempt(event: ItemFinished) -> Attributes:
    return {
        "thresher.run_id": event.run_id,
        "thresher.item": event.item,
        "thresher.attempt": event.attempt,
        "thresher.stage": event.stage,
        "thresher.item_status": str(event.status),
        **_of_usage(event.usage),
    }


def _of_usage(usage: Usage) -> Attributes:
    counted = {
        "thresher.requests": usage.requests,
        "thresher.cache_hits": usage.cache_hits,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    return counted if usage.cost_usd is None else {**counted, "thresher.cost_usd": usage.cost_usd}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _NANO)


def tracing_with(provider: TracerProvider) -> Tracing:
    """Spans for a provider that somebody else has set up."""
    return Tracing(provider.get_tracer("thresher"))


@contextmanager
def exported(endpoint: str) -> Iterator[Tracing]:
    """Spans that are sent to the collector at ``endpoint`` over HTTP, the last ones when it is left.

    Other ``OTEL_`` variables (headers, service name, sampling, batches) are read from the environment by the SDK.
    """
    exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + TRACES, timeout=PATIENCE)
    processor: SpanProcessor = BatchSpanProcessor(exporter)
    named = Resource({"service.name": "thresher"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    try:
        yield tracing_with(provider)
    finally:
        provider.shutdown()
