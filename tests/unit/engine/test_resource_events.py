from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
import structlog

from thresher.core.correlation import Correlation, correlated
from thresher.core.errors import RateLimited, TransientLLMError
from thresher.core.logging import LogOptions, configure_logging
from thresher.engine.admission import ResourceLimits
from thresher.engine.breaker import BreakerPolicy, Circuit
from thresher.engine.gate import Gate, Resources
from thresher.engine.resource_events import (
    Announcer,
    CircuitChanged,
    ConcurrencyChanged,
    RequestEnded,
    RequestRefused,
    ResourceEvent,
)
from thresher.engine.resource_log import ResourceLog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def heard_of(gate: Gate, error: Exception | None) -> None:
    with suppress(TransientLLMError), gate.permit():
        if error is not None:
            raise error


def test_a_request_says_for_whom_how_long_and_how_it_ended() -> None:
    heard, clock = list[ResourceEvent](), Clock()
    gate = Gate("m", ResourceLimits(), clock, [heard.append])
    place = Correlation("r1", item=2, attempt=3)
    with correlated(place), gate.permit():
        clock.now = 1.5
    [event] = heard
    assert isinstance(event, RequestEnded)
    assert (event.resource, event.seconds, event.waited, event.error_class) == ("m", 1.5, 0.0, None)
    assert event.place == place


def test_a_refusal_says_how_long_nobody_asks() -> None:
    heard = list[ResourceEvent]()
    gate = Gate("m", ResourceLimits(), Clock(), [heard.append])
    heard_of(gate, RateLimited("x", retry_after=7.0))
    assert [type(event) for event in heard] == [RequestEnded, RequestRefused]
    assert heard[1] == RequestRefused("m", 7.0)


def test_a_circuit_tells_each_change_of_its_state_once() -> None:
    heard, clock = list[ResourceEvent](), Clock()
    breaker = BreakerPolicy(failures=2, open_seconds=10.0, successes=1)
    gate = Gate("m", ResourceLimits(breaker=breaker), clock, [heard.append])
    for _ in range(2):
        heard_of(gate, TransientLLMError("x"))
    clock.now = 11.0
    heard_of(gate, None)
    heard_of(gate, None)
    changes = [(event.before, event.now) for event in heard if isinstance(event, CircuitChanged)]
    assert changes == [
        (Circuit.CLOSED, Circuit.OPEN),
        (Circuit.OPEN, Circuit.HALF_OPEN),
        (Circuit.HALF_OPEN, Circuit.CLOSED),
    ]


def test_a_lower_concurrency_is_told() -> None:
    heard = list[ResourceEvent]()
    limits = ResourceLimits(concurrency=30, breaker=BreakerPolicy(failures=100))
    gate = Gate("m", limits, listeners=[heard.append])
    for _ in range(30):
        heard_of(gate, TransientLLMError("x"))
    assert [event for event in heard if isinstance(event, ConcurrencyChanged)] == [ConcurrencyChanged("m", 30, 20)]
    assert gate.concurrency == 20


def test_listeners_may_look_at_the_gate_and_a_broken_one_disturbs_nobody() -> None:
    seen = list[int]()

    def look(_event: ResourceEvent) -> None:
        seen.append(gate.waiting)  # takes the gate's lock

    def fail(_event: ResourceEvent) -> None:
        raise RuntimeError

    resources = Resources(listeners=[fail, look])
    gate = resources.gate("m")
    heard_of(gate, None)
    assert seen == [0]
    assert [one.name for one in resources.gates()] == ["m"]


def test_news_come_one_at_a_time_in_their_order_whoever_tells_them() -> None:
    told = list[float]()

    def listen(event: ResourceEvent) -> None:
        assert isinstance(event, RequestRefused)
        told.append(event.pause)

    announcer = Announcer([listen])

    def tell(first: int) -> None:
        for number in range(first, first + 100):
            announcer.note(RequestRefused("m", number))
            announcer.tell()

    threads = [Thread(target=tell, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 800
    for number in range(8):
        own = [pause for pause in told if pause // 1000 == number]
        assert own == sorted(own)


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "log"
    configure_logging(LogOptions("info", "json", file))
    yield file
    configure_logging()  # closes the file
    structlog.reset_defaults()


def test_the_log_says_what_changed_and_counts_refusals_once_a_second(log_file: Path) -> None:
    clock = Clock()
    write = ResourceLog(clock)
    for now in (0.0, 0.2, 0.4, 1.5):
        clock.now = now
        write(RequestRefused("m", 2.0))
    write(CircuitChanged("m", Circuit.CLOSED, Circuit.OPEN))
    for before, now in ((64, 62), (62, 50), (50, 52), (52, 64)):
        write(ConcurrencyChanged("m", before, now))
    write(RequestEnded("m", 0.0, 1.0, 0.0, None, None))
    lines = [json.loads(line) for line in log_file.read_text("utf-8").splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("rate limited", "info"),
        ("rate limited", "info"),
        ("circuit opened", "warning"),
        ("concurrency lowered", "info"),
        ("concurrency raised", "info"),
    ]
    assert [line["refusals"] for line in lines[:2]] == [1, 3]
    assert [(line["before"], line["now"]) for line in lines[3:]] == [(64, 50), (50, 64)]
