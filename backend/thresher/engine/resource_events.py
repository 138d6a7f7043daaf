"""What the gate before a resource tells: requests that ended, refusals, changes of circuit and concurrency."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from thresher.core.correlation import Correlation
from thresher.core.logging import get_logger
from thresher.engine.breaker import Circuit

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """One request ended, at ``ended_at`` (seconds since 1970) after ``seconds``, having ``waited`` for a permit.

    ``error_class`` is None where it was answered. ``place``: the attempt that it was sent for.
    """

    resource: str
    ended_at: float
    seconds: float
    waited: float
    error_class: str | None
    place: Correlation | None


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The resource refused a request for its rate; nobody asks it before ``pause`` seconds have passed."""

    resource: str
    pause: float


@dataclass(frozen=True, slots=True)
class CircuitChanged:
    """The circuit of a resource changed its state."""

    resource: str
    before: Circuit
    now: Circuit


@dataclass(frozen=True, slots=True)
class ConcurrencyChanged:
    """So many requests may be under way at once from now on."""

    resource: str
    before: int
    now: int


ResourceEvent = RequestEnded | RequestRefused | CircuitChanged | ConcurrencyChanged
ResourceListener = Callable[[ResourceEvent], None]


class Announcer:
    """Tells listeners what was noted, in the order of noting, one thing at a time and outside of any other lock.

    ``note`` is called under the lock of whoever notes, ``tell`` after it. A thread that finds another one telling
    leaves its news to that one.
    """

    def __init__(self, listeners: Sequence[ResourceListener] = ()) -> None:
        self.is_heard = bool(listeners)
        self._listeners = tuple(listeners)
        self._noted: deque[ResourceEvent] = deque()
        self._telling = Lock()  # held by the one thread that tells

    def note(self, event: ResourceEvent) -> None:
        """Keeps news for ``tell``."""
        if self.is_heard:
            self._noted.append(event)

    def tell(self) -> None:
        """Tells all that was noted, or leaves it to the thread that is telling already."""
        while self._noted and self._telling.acquire(blocking=False):
            try:
                while self._noted:
                    self._tell_one(self._noted.popleft())
            finally:
                self._telling.release()

    def _tell_one(self, event: ResourceEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("resource listener failed", about=type(event).__name__)
