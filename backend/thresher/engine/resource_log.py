"""What a resource goes through, as log lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from thresher.core.correlation import Correlation
from thresher.core.logging import DEBUG, get_logger, is_logged
from thresher.engine.breaker import Circuit
from thresher.engine.resource_events import (
    CircuitChanged,
    ConcurrencyChanged,
    RequestEnded,
    RequestRefused,
    ResourceEvent,
)

log = get_logger(__name__)

BETWEEN_REFUSALS = 1.0  # seconds between two lines that a resource refuses
_CIRCUIT = {
    Circuit.CLOSED: "circuit closed",
    Circuit.OPEN: "circuit opened",
    Circuit.HALF_OPEN: "circuit half-open",
}
NOTABLE = 0.2  # share by which the concurrency has to differ from the last line about it


@dataclass(slots=True)
class _Told:
    """What was last said of a resource."""

    refusals: int = 0  # that no line has counted yet
    refused_at: float = float("-inf")
    concurrency: int | None = None


class ResourceLog:
    """Writes a line per change of a circuit or of the concurrency, one a second for refusals, one per request at debug.

    Called for one event at a time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def __call__(self, event: ResourceEvent) -> None:
        """Writes what is to be said of an event (the listener of a gate)."""
        match event:
            case RequestEnded():
                if is_logged(DEBUG):
                    _say_request(event)
            case RequestRefused():
                self._refused(event, self._of(event.resource))
            case CircuitChanged():
                _say_circuit(event)
            case ConcurrencyChanged():
                _say_concurrency(event, self._of(event.resource))

    def _of(self, resource: str) -> _Told:
        return self._told.setdefault(resource, _Told())

    def _refused(self, event: RequestRefused, told: _Told) -> None:
        told.refusals += 1
        now = self._clock()
        if now - told.refused_at < BETWEEN_REFUSALS:
            return
        log.info("rate limited", resource=event.resource, pause_s=round(event.pause, 3), refusals=told.refusals)
        told.refusals, told.refused_at = 0, now


def _say_request(event: RequestEnded) -> None:
    log.debug(
        "request ended",
        resource=event.resource,
        ms=round(event.seconds * 1000),
        waited_ms=round(event.waited * 1000),
        error=event.error_class,
        **_levels(event.place),
    )


def _levels(place: Correlation | None) -> dict[str, object]:
    """The attempt of a request: it may be told by the thread of another."""
    if place is None:
        return {}
    levels = {"run_id": place.run_id, "batch": place.batch, "item": place.item, "attempt": place.attempt}
    return {"correlation_id": place.id, **{name: value for name, value in levels.items() if value is not None}}


def _say_circuit(event: CircuitChanged) -> None:
    say = log.warning if event.now is Circuit.OPEN else log.info
    say(_CIRCUIT[event.now], resource=event.resource, before=str(event.before))


def _say_concurrency(event: ConcurrencyChanged, told: _Told) -> None:
    last = told.concurrency = told.concurrency or event.before
    if abs(event.now - last) < max(NOTABLE * last, 1):
        return
    told.concurrency = event.now
    change = "concurrency lowered" if event.now < last else "concurrency raised"
    log.info(change, resource=event.resource, before=last, now=event.now)
