"""How many requests a resource (a model, a host, an API) takes at once, and when it asked for a pause."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Condition

from thresher.core.errors import RetryableError
from thresher.engine.control import Interrupted


class Gate:
    """The permits of one resource, given in the order of asking.

    A permit is held for one request, never over consumer code or another permit, so that nested stages cannot
    deadlock. After an answer with a Retry-After nobody passes before that time.
    """

    def __init__(self, limit: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._condition = Condition()  # protects all below
        self._waiting: deque[object] = deque()
        self._in_use = 0
        self._closed_until = 0.0

    @contextmanager
    def permit(self, is_stopping: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Waits for a permit and holds it while inside.

        Raises:
            Interrupted: ``is_stopping`` became true while waiting (looked at every 0.2 s).
        """
        self._acquire(is_stopping)
        try:
            yield
        except RetryableError as error:
            self._pause(error.retry_after)
            raise
        finally:
            with self._condition:
                self._in_use -= 1
                self._condition.notify_all()

    def _acquire(self, is_stopping: Callable[[], bool]) -> None:
        ticket = object()
        with self._condition:
            self._waiting.append(ticket)
            try:
                while (wait := self._time_to_wait(ticket)) > 0:
                    if is_stopping():
                        raise Interrupted("The run was stopped while this item waited for a permit.")
                    self._condition.wait(min(wait, 0.2))
                self._in_use += 1
            finally:
                self._waiting.remove(ticket)
                self._condition.notify_all()

    def _time_to_wait(self, ticket: object) -> float:
        """Seconds until it is worth looking again; 0 when it is this ticket's turn."""
        if self._waiting[0] is not ticket or (self._limit is not None and self._in_use >= self._limit):
            return 0.2
        return max(self._closed_until - self._clock(), 0.0)

    def _pause(self, retry_after: float | None) -> None:
        with self._condition:
            self._closed_until = max(self._closed_until, self._clock() + (retry_after or 0.0))


class Resources:
    """The gates of a process, one per resource key, made at first use."""

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        self._limits = dict(limits or {})
        self._gates: dict[str, Gate] = {}

    def gate(self, key: str) -> Gate:
        """The gate of a resource; without a configured limit it only keeps pauses."""
        gate = self._gates.get(key)
        return gate if gate is not None else self._gates.setdefault(key, Gate(self._limits.get(key)))
