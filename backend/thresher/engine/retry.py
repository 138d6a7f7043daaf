"""When a failed item is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from tenacity import RetryCallState, wait_exponential

from thresher.core.errors import Postponed, RetryableError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter, bounded over all processes and restarts.

    The n-th retry (n from 1) waits ``min(base * factor ** (n - 1), cap)`` seconds, times a random share between
    ``jitter_low`` and ``jitter_high``; where the other side asked for more time (Retry-After), that wins.
    After ``max_retries`` failed retries the item is dead. Other errors than ``RetryableError`` are not retried.
    A ``Postponed`` item has not failed: it waits for what the other side asked for, else for one ``base`` with
    jitter. After ``max_attempts`` tries of any kind an item is dead all the same.
    """

    max_retries: int = 3
    max_attempts: int = 100
    base: float = 1.0  # seconds
    factor: float = 2.0
    cap: float = 300.0  # seconds
    jitter_low: float = 0.5
    jitter_high: float = 1.5
    random: Callable[[float, float], float] = random.uniform

    def delay(self, error: BaseException, failures: int, attempts: int = 1) -> float | None:
        """Seconds to wait before the next try, None where there must be none.

        ``failures`` counts the failed tries of the item including this one, ``attempts`` all of its tries.
        """
        if not isinstance(error, RetryableError) or attempts >= self.max_attempts:
            return None
        if isinstance(error, Postponed):
            failures = 1
        elif failures > self.max_retries:
            return None
        jittered = self.backoff(failures) * self.random(self.jitter_low, self.jitter_high)
        return max(jittered, error.retry_after or 0.0)

    def drawn(self) -> RetryPolicy:
        """The same with its jitter drawn once: for items that are to come back at the same moment."""
        share = self.random(0.0, 1.0)
        return replace(self, random=lambda low, high: low + (high - low) * share)

    def backoff(self, failures: int) -> float:
        """The wait in seconds before jitter, after ``failures`` failed tries."""
        wait = wait_exponential(multiplier=self.base, exp_base=self.factor, max=self.cap)
        return wait(_state(failures))


def _state(attempt_number: int) -> RetryCallState:
    """What tenacity's wait strategies look at, for a retry that does not happen inside a call."""
    state = RetryCallState(retry_object=cast("Any", None), fn=None, args=(), kwargs={})
    state.attempt_number = attempt_number
    return state
