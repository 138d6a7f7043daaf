"""Prometheus metrics of runs, items, attempts and resources, and the page they are read from.

No label takes unbounded values: no run, no item, no path, no words of errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from thresher.core import errors
from thresher.core.errors import BadConfiguration
from thresher.core.logging import get_logger
from thresher.engine.breaker import Circuit
from thresher.engine.control import Interrupted
from thresher.engine.gate import Gate, Resources
from thresher.engine.progress import Event, ItemFinished, ItemsPlanned, RunFinished, RunStarted, Snapshot
from thresher.engine.resource_events import CircuitChanged, RequestEnded, RequestRefused, ResourceEvent
from thresher.engine.work import AttemptStatus, ItemStatus, Usage

log = get_logger(__name__)

_ITEM_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_WAIT_SECONDS = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)
_CIRCUITS = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}
OTHER_ERROR = "other"  # the label of errors that are not Thresher's own: defects


class Metrics:
    """Keeps the figures of this process; ``on_run`` and ``on_resource`` are listeners, called from any thread."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._runs = _Runs(self.registry)
        self._usage = _Usage(self.registry)
        self._resources = _Requests(self.registry)
        self._now: _Now | None = None
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def watch(self, resources: Resources, in_hand: Callable[[], int]) -> None:
        """Reads the state of gates, and how many attempts are under way, whenever the figures are asked for."""
        if self._now is not None:
            self.registry.unregister(self._now)
        self._now = _Now(resources, in_hand)
        self.registry.register(self._now)

    def on_run(self, event: Event) -> None:
        """Counts an event of a run."""
        self._runs.heard(event)
        if isinstance(event, ItemFinished):
            self._usage.add(event.usage)

    def on_resource(self, event: ResourceEvent) -> None:
        """Counts an event of a resource."""
        self._resources.heard(event)


class _Runs:
    """Runs, items, attempts and facts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._kinds: dict[str, str] = {}  # of the runs that are being worked on
        self._open: dict[str, int] = {}  # items of each that are not finished
        self.started = Counter("thresher_runs_started", "Sessions of runs begun.", ["kind"], registry=registry)
        self.finished = Counter(
            "thresher_runs_finished",
            "Sessions of runs ended, by the run's state.",
            ["kind", "status"],
            registry=registry,
        )
        self.active = Gauge("thresher_runs_active", "Runs being worked on.", ["kind"], registry=registry)
        self.open = Gauge("thresher_items_open", "Items that are not finished.", ["kind"], registry=registry)
        self.items = Counter(
            "thresher_items_finished", "Items that reached their end.", ["kind", "status"], registry=registry
        )
        self.attempts = Counter(
            "thresher_attempts", "Tries at items, by how they ended.", ["kind", "outcome", "error"], registry=registry
        )
        self.seconds = Histogram(
            "thresher_attempt_duration_seconds", "Time of a try.", ["kind"], buckets=_ITEM_SECONDS, registry=registry
        )
        self.facts = Counter("thresher_facts", "Facts found.", ["kind"], registry=registry)

    def heard(self, event: Event) -> None:
        match event:
            case RunStarted(run=run):
                self._kinds[run.run_id] = run.kind
                self.started.labels(run.kind).inc()
                self.active.labels(run.kind).inc()
                self._show_open(run.run_id, event.snapshot)
            case ItemsPlanned():
                self._show_open(event.run_id, event.snapshot)
            case ItemFinished():
                self._ended(event, self._kinds.get(event.run_id, ""))
            case RunFinished(report=report):
                kind = self._kinds.pop(report.run_id, "")
                self._open.pop(report.run_id, None)
                self.finished.labels(kind, report.status).inc()
                self.active.labels(kind).dec()
                self._sum_open(kind)

    def _ended(self, event: ItemFinished, kind: str) -> None:
        if event.status is not ItemStatus.PENDING:
            self.items.labels(kind, event.status).inc()
        self.attempts.labels(kind, *_outcome(event.error_class)).inc()
        self.seconds.labels(kind).observe(event.duration)
        result = event.result if isinstance(event.result, dict) else {}
        self.facts.labels(kind).inc(result.get("facts", 0))
        self._show_open(event.run_id, event.snapshot)

    def _show_open(self, run_id: str, snapshot: Snapshot) -> None:
        self._open[run_id] = snapshot.counts.open
        self._sum_open(self._kinds.get(run_id, ""))

    def _sum_open(self, kind: str) -> None:
        of_kind = [run_id for run_id, its_kind in tuple(self._kinds.items()) if its_kind == kind]
        self.open.labels(kind).set(sum(self._open.get(run_id, 0) for run_id in of_kind))


class _Usage:
    """What was paid for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("thresher_requests", "Requests that were paid for.", registry=registry)
        self.tokens = Counter(
            "thresher_tokens", "Tokens: prompt, completion; cached is part of prompt.", ["type"], registry=registry
        )
        self.cost = Counter("thresher_cost_usd", "Cost where the price is known, in US dollars.", registry=registry)
        self.unpriced = Counter("thresher_attempts_unpriced", "Tries whose cost is unknown.", registry=registry)
        self.cache_hits = Counter("thresher_cache_hits", "Answers that were kept from before.", registry=registry)

    def add(self, usage: Usage) -> None:
        self.requests.inc(usage.requests)
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)
        self.tokens.labels("cached").inc(usage.cached_tokens)
        self.cache_hits.inc(usage.cache_hits)
        if usage.cost_usd is None:
            self.unpriced.inc()
        else:
            self.cost.inc(usage.cost_usd)


class _Requests:
    """What went through the gates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "thresher_request_duration_seconds",
            "Time from sending a request to its end.",
            ["resource", "error"],
            buckets=_ITEM_SECONDS,
            registry=registry,
        )
        self.waits = Histogram(
            "thresher_permit_wait_seconds",
            "Time a request waited for its permit: rate, concurrency, circuit.",
            ["resource"],
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        self.limited = Counter(
            "thresher_rate_limited", "Requests refused for their rate (429).", ["resource"], registry=registry
        )
        self.openings = Counter(
            "thresher_circuit_openings", "Times that a circuit opened.", ["resource"], registry=registry
        )

    def heard(self, event: ResourceEvent) -> None:
        match event:
            case RequestEnded():
                self.seconds.labels(event.resource, _error(event.error_class)).observe(event.seconds)
                self.waits.labels(event.resource).observe(event.waited)
            case RequestRefused():
                self.limited.labels(event.resource).inc()
            case CircuitChanged(now=Circuit.OPEN):
                self.openings.labels(event.resource).inc()


class _Now(Collector):
    """What is read at the moment of asking."""

    def __init__(self, resources: Resources, in_hand: Callable[[], int]) -> None:
        self._resources = resources
        self._in_hand = in_hand

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("thresher_items_running", "Items being worked on.", value=self._in_hand())
        gates = self._resources.gates()
        yield _of_gates("thresher_requests_in_flight", "Requests under way.", gates, lambda gate: gate.in_flight)
        yield _of_gates(
            "thresher_requests_waiting", "Threads that wait for a permit.", gates, lambda gate: gate.waiting
        )
        yield _of_gates(
            "thresher_concurrency_limit", "Requests at once.", gates, lambda gate: gate.concurrency or float("inf")
        )
        yield _of_gates(
            "thresher_circuit_state", "0 closed, 1 half-open, 2 open.", gates, lambda gate: _CIRCUITS[gate.circuit]
        )


def _of_gates(name: str, meaning: str, gates: Iterable[Gate], value: Callable[[Gate], float]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=["resource"])
    for gate in gates:
        family.add_metric([gate.name], value(gate))
    return family


def _outcome(error_class: str | None) -> tuple[AttemptStatus, str]:
    if error_class is None:
        return AttemptStatus.SUCCEEDED, ""
    is_interrupted = error_class == Interrupted.__name__
    return (AttemptStatus.INTERRUPTED if is_interrupted else AttemptStatus.FAILED), _error(error_class)


def _error(error_class: str | None) -> str:
    """The class as a label: of those that Thresher knows; defects are one."""
    if error_class is None:
        return ""
    is_known = hasattr(errors, error_class) or error_class == Interrupted.__name__
    return error_class if is_known else OTHER_ERROR


@contextmanager
def served(registry: CollectorRegistry, host: str, port: int) -> Iterator[int]:
    """Serves the figures at ``http://host:port/metrics`` while inside, by a thread of its own; yields the real port.

    Raises:
        BadConfiguration: the address cannot be used.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise BadConfiguration(
            f"METRICS_PORT: {host}:{port} cannot be listened on ({error.strerror}): is another run using it? "
            "Choose another port, or 0 for a free one."
        ) from error
    try:
        log.info("metrics served", host=host, port=server.server_port)
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
