"""A circuit breaker: after a row of failures nobody asks for a while, then one, then all again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Circuit(StrEnum):
    """The states of a circuit. ``HALF_OPEN`` lets one request through at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a circuit opens and closes.

    It opens after ``failures`` in a row, or as many as were in flight when the row began if that is more: they fail
    together when a server goes away, and a server that fails one request in three must not open it by chance. It
    stays open for ``open_seconds``, and closes after ``successes`` in a row. ``patience`` is the time in seconds
    without one success after which waiting is given up; None waits for ever.
    """

    failures: int = 5
    open_seconds: float = 60.0
    successes: int = 3
    patience: float | None = 1800.0


class Breaker:
    """The circuit of one resource. Not locked: whoever owns it calls it under a lock of his own.

    Pattern: M. Nygard, Release It!, 2nd edition 2018, chapter 5.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.state = Circuit.CLOSED
        self.openings = 0
        self._policy = policy
        self._failures = 0  # in a row
        self._needed = policy.failures
        self._successes = 0  # in a row, while half-open
        self._opened_at = 0.0
        self._failing_since: float | None = None
        self._is_probing = False

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent; while a probe is out, a second at a time."""
        if self.state is Circuit.CLOSED:
            return 0.0
        if self.state is Circuit.OPEN:
            left = self._opened_at + self._policy.open_seconds - now
            if left > 0:
                return left
            self.state = Circuit.HALF_OPEN
            self._successes = 0
        return 1.0 if self._is_probing else 0.0

    def is_hopeless(self, now: float) -> bool:
        """Whether nothing has succeeded for longer than anybody wants to wait."""
        patience, since = self._policy.patience, self._failing_since
        return patience is not None and since is not None and self.openings > 0 and now - since > patience

    def enter(self) -> bool:
        """A request is sent; whether it is a probe."""
        if self.state is Circuit.CLOSED:
            return False
        self._is_probing = True
        return True

    def left(self, *, is_probe: bool) -> None:
        """A request ended without saying anything of the server (it was interrupted)."""
        if is_probe:
            self._is_probing = False

    def succeeded(self, *, is_probe: bool) -> None:
        """The server answered, if only to say no."""
        self._failing_since = None
        self._failures = 0
        if not is_probe or self.state is not Circuit.HALF_OPEN:
            self.left(is_probe=is_probe)
            return
        self._is_probing = False
        self._successes += 1
        if self._successes >= self._policy.successes:
            self.state = Circuit.CLOSED
            self.openings = 0

    def failed(self, now: float, *, is_probe: bool, in_flight: int) -> None:
        """The server did not answer, or with an error of its own."""
        if self._failing_since is None:
            self._failing_since = now
        if is_probe:
            self._is_probing = False
            self._open(now)
        elif self.state is Circuit.CLOSED:
            if not self._failures:
                self._needed = max(self._policy.failures, in_flight)
            self._failures += 1
            if self._failures >= self._needed:
                self._open(now)

    def _open(self, now: float) -> None:
        self.state = Circuit.OPEN
        self.openings += 1
        self._opened_at = now
        self._failures = 0
