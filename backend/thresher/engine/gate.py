"""The gates before resources (a model, a host, an API): all workers of a process wait at the same one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import itemgetter
from threading import Condition, Lock
from typing import Any

from thresher.core.correlation import current
from thresher.core.errors import RateLimited, ResourceGone, RetryableError, ThresherError
from thresher.core.limits import ReportedLimits
from thresher.engine.admission import Admission, Pass, ResourceLimits
from thresher.engine.breaker import Circuit
from thresher.engine.control import Interrupted
from thresher.engine.resource_events import (
    Announcer,
    CircuitChanged,
    ConcurrencyChanged,
    RequestEnded,
    RequestRefused,
    ResourceListener,
)

_LOOK_AROUND = 0.2  # seconds between two looks at whether the run is being stopped


class NoPermit(ThresherError):
    """Raised where a permit was wanted at once and none was free."""


@dataclass(frozen=True, slots=True)
class Turn:
    """For whom a permit is asked: runs of a smaller ``priority`` go first, runs of the same take turns.

    ``waits`` is False for what is only sent where it can be sent at once. ``is_fresh`` is False for an item that has
    failed before: that it fails again says nothing of the resource.
    """

    run_id: str = ""
    priority: int = 1
    waits: bool = True
    is_fresh: bool = True


_ANYONE = Turn()


@dataclass(frozen=True, slots=True)
class Load:
    """What a resource is asked at this moment, and what it takes.

    Rates are per second, ``requests_per_second`` is measured over the last seconds; a limit is None where none is
    known. ``pause``: seconds for which the resource has asked to be left alone.
    """

    resource: str
    in_flight: int
    waiting: int
    concurrency: int | None
    circuit: Circuit
    pause: float
    requests_per_second: float
    requests_limit: float | None
    tokens_limit: float | None


class Permit:
    """The right to send ONE request, held while it is under way."""

    def __init__(self, entry: Pass) -> None:
        self._entry = entry

    def settle(self, limits: ReportedLimits, tokens: int | None = None) -> None:
        """What the reply said: its limits, and the tokens that the request really took."""
        self._entry.reported = limits
        self._entry.used_tokens = tokens


class _Ticket:
    """One waiting thread. ``moved`` is notified when it may have become the first."""

    __slots__ = ("line", "moved")

    def __init__(self, turn: Turn, lock: Lock) -> None:
        self.line = turn.run_id, turn.priority
        self.moved = Condition(lock)


class _Queue:
    """Who waits: by priority, then the runs in turns, then in the order of asking. Not locked."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], deque[_Ticket]] = {}  # by run and priority; whose turn it is first

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def add(self, ticket: _Ticket) -> None:
        self._lines.setdefault(ticket.line, deque()).append(ticket)

    def first(self) -> _Ticket | None:
        """The one that goes next."""
        if not self._lines:
            return None
        return self._lines[min(self._lines, key=itemgetter(1))][0]  # min keeps the order of equals

    def remove(self, ticket: _Ticket) -> None:
        """Takes a ticket out; its run is last among its like from now on."""
        line = self._lines.pop(ticket.line)
        line.remove(ticket)
        if line:
            self._lines[ticket.line] = line


class Gate:
    """The permits of one resource. Fair: in the order of asking within a run, runs of one priority in turns.

    A permit is held for one request, never over consumer code or another permit, so that nested stages cannot
    deadlock. Only the thread whose turn it is watches the clock; the others sleep until it is theirs.
    """

    def __init__(
        self,
        name: str,
        limits: ResourceLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        listeners: Sequence[ResourceListener] = (),
    ) -> None:
        self.name = name
        self._clock = clock
        self._announcer = Announcer(listeners)
        self._lock = Lock()  # protects all below
        self._admission = Admission(limits or ResourceLimits(), clock())
        self._queue = _Queue()
        self._circuit, self._concurrency = self._admission.circuit.state, self._admission.concurrency  # as announced

    @property
    def circuit(self) -> Circuit:
        """The state of its circuit, as announced."""
        return self._circuit

    @property
    def concurrency(self) -> int | None:
        """Requests at once at this moment; None where there is no bound."""
        return self._concurrency

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._admission.in_flight

    @property
    def waiting(self) -> int:
        """Threads that wait for a permit."""
        with self._lock:
            return len(self._queue)

    def load(self) -> Load:
        """All of that, and the rate against the limit."""
        with self._lock:
            now, admission = self._clock(), self._admission
            return Load(
                resource=self.name,
                in_flight=admission.in_flight,
                waiting=len(self._queue),
                concurrency=admission.concurrency,
                circuit=admission.circuit.state,
                pause=admission.pause(now),
                requests_per_second=admission.sent_per_second(now),
                requests_limit=admission.requests_limit(now),
                tokens_limit=admission.tokens_limit(),
            )

    def permit(
        self, is_stopping: Callable[[], bool] = lambda: False, tokens: float = 0.0, turn: Turn | None = None
    ) -> AbstractContextManager[Permit]:
        """Waits for a permit for a request of about ``tokens`` tokens, and holds it while inside.

        Raises on entering:
            Interrupted: ``is_stopping`` became true while waiting (looked at every 0.2 s).
            NoPermit: it does not wait, and there was none.
            ResourceGone: the resource has been away for too long.

        Raises on leaving:
            ResourceUnavailable: this request was sent to see whether the resource is back; it is not.
        """
        return _Held(self, is_stopping, tokens, turn or _ANYONE)

    def enter(self, is_stopping: Callable[[], bool], tokens: float, turn: Turn) -> Pass:
        """Waits for a permit: see ``permit``, which gives it back, too."""
        asked_at = self._clock()
        entry = self._enter(is_stopping, tokens, turn)
        entry.is_evidence = turn.is_fresh
        entry.waited = entry.entered_at - asked_at
        self._announcer.tell()
        return entry

    def leave(self, entry: Pass, error: BaseException | None) -> None:
        """Gives a permit back, of a request that ended so.

        Raises:
            ResourceUnavailable: see ``permit``.
        """
        try:
            if entry.is_probe and isinstance(error, RetryableError):
                raise self._admission.probe_failed(error) from error
        finally:
            self._leave(entry, error)
            self._announcer.tell()

    def _enter(self, is_stopping: Callable[[], bool], tokens: float, turn: Turn) -> Pass:
        with self._lock:
            now = self._clock()
            if not self._queue.first() and self._admission.wait(now, tokens) <= 0:
                self._note_changes()
                return self._admission.enter(now, tokens)
            if not turn.waits:
                raise NoPermit(f"{self.name} takes no further request at this moment.")
            ticket = _Ticket(turn, self._lock)
            self._queue.add(ticket)
            try:
                return self._wait(ticket, is_stopping, tokens)
            finally:
                self._queue.remove(ticket)
                self._call_next()
                self._note_changes()

    def _wait(self, ticket: _Ticket, is_stopping: Callable[[], bool], tokens: float) -> Pass:
        while True:
            if is_stopping():
                raise Interrupted("The run was stopped while this item waited for a permit.")
            now = self._clock()
            wait = _LOOK_AROUND
            if self._queue.first() is ticket:
                if self._admission.is_hopeless(now):
                    raise ResourceGone(f"{self.name} has answered nothing for too long. Resume the run when it does.")
                wait = self._admission.wait(now, tokens)
                if wait <= 0:
                    return self._admission.enter(now, tokens)
            ticket.moved.wait(min(wait, _LOOK_AROUND))

    def _leave(self, entry: Pass, error: BaseException | None) -> None:
        with self._lock:
            now = self._clock()
            self._admission.leave(now, entry, error)
            self._call_next()
            if self._announcer.is_heard:
                self._note_request(now - entry.entered_at, entry.waited, error)
                if isinstance(error, RateLimited):
                    self._announcer.note(RequestRefused(self.name, self._admission.pause(now)))
            self._note_changes()

    def _note_request(self, seconds: float, waited: float, error: BaseException | None) -> None:
        error_class = None if error is None else type(error).__name__
        self._announcer.note(RequestEnded(self.name, time.time(), seconds, waited, error_class, current()))

    def _note_changes(self) -> None:
        """Notes what differs from what was announced last."""
        circuit, concurrency = self._admission.circuit.state, self._admission.concurrency
        if circuit is not self._circuit:
            self._announcer.note(CircuitChanged(self.name, self._circuit, circuit))
            self._circuit = circuit
        if concurrency != self._concurrency:
            self._announcer.note(ConcurrencyChanged(self.name, self._concurrency or 0, concurrency or 0))
            self._concurrency = concurrency

    def _call_next(self) -> None:
        first = self._queue.first()
        if first is not None:
            first.moved.notify()


class _Held:
    """A permit while a request is under way: a ``with`` of its own costs a third of a generator's."""

    __slots__ = ("_asked", "_entry", "_gate")

    def __init__(self, gate: Gate, *asked: Any) -> None:  # noqa: ANN401 # what Gate.enter takes
        self._gate = gate
        self._asked = asked

    def __enter__(self) -> Permit:
        self._entry = self._gate.enter(*self._asked)
        return Permit(self._entry)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._gate.leave(self._entry, error)


class Resources:
    """The gates of a process, one per resource key, made at first use; shared by all its runs."""

    def __init__(
        self,
        limits: Mapping[str, ResourceLimits] | None = None,
        default: ResourceLimits | None = None,
        listeners: Sequence[ResourceListener] = (),
    ) -> None:
        self._listeners = tuple(listeners)
        self._limits = dict(limits or {})
        self._default = default or ResourceLimits()
        self._gates: dict[str, Gate] = {}

    def gate(self, key: str) -> Gate:
        """The gate of a resource."""
        gate = self._gates.get(key)
        if gate is None:
            limits = self._limits.get(key, self._default)
            gate = self._gates.setdefault(key, Gate(key, limits, listeners=self._listeners))
        return gate

    def gates(self) -> Sequence[Gate]:
        """Those that exist so far."""
        return tuple(self._gates.values())
