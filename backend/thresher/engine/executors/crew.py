"""How many threads of a pool take items at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition

LEAST_RATE = 300  # items per second, below which the exchange of a lock costs nothing to speak of
BUSY = (0.8, 1.5)  # processors in use, where it is Python code that keeps them so
NO_SLOWER = 0.9  # of what all of them did is enough for one
FIRST_PATIENCE, LONGEST_PATIENCE = 1.0, 60.0  # seconds


class Crew:
    """All threads, or one while the others would only take the interpreter's lock from each other.

    Items that ask nobody (their answers are known) are Python code, of which one thread runs at a time. Ten threads
    that exchange the lock with every look into the database do a fifth less than one, for more processor time. So one
    works alone where items end fast, the processors are busy with one interpreter's work, and nobody has waited for
    somebody else; it is kept up while that is not slower, and tried again after a time that doubles where it was.
    The moment somebody is about to wait all work again.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        processor_time: Callable[[], float] = time.process_time,
    ) -> None:
        """``processor_time`` in seconds, of the whole process."""
        self._clock = clock
        self._processor_time = processor_time
        self._changed = Condition()  # notified when more may work
        self._is_alone = False
        self._has_waited = False
        self._rate_of_all = 0.0  # items per second, before one worked alone
        self._patience = FIRST_PATIENCE
        self.begin()

    def begin(self) -> None:
        """A session begins: nothing is known of its items."""
        self._measured_at, self._used = self._clock(), self._processor_time()
        self._next_try, self._patience = self._measured_at, FIRST_PATIENCE
        self.call_all()

    @property
    def is_alone(self) -> bool:
        """Whether one thread works alone."""
        return self._is_alone

    def call_all(self) -> None:
        """All may work."""
        with self._changed:
            self._is_alone = False
            self._changed.notify_all()

    def about_to_wait(self) -> None:
        """A thread that works waits for somebody else next: others may work meanwhile."""
        self._has_waited = True
        if self._is_alone:
            self.call_all()

    def wait_for_turn(self, number: int) -> None:
        """Returns when the thread of this number, from 0, may take an item: the first one at once."""
        if number and self._is_alone:
            with self._changed:
                while self._is_alone:
                    self._changed.wait()

    def measure(self, ended: int) -> None:
        """So many items have ended since the last time; decides who works from now on."""
        now, used = self._clock(), self._processor_time()
        seconds = now - self._measured_at
        rate, busy = ended / seconds, (used - self._used) / seconds
        has_waited = self._has_waited
        self._measured_at, self._used, self._has_waited = now, used, False
        if self._is_alone:
            self._go_on_alone(rate, now)
        elif not has_waited and rate >= LEAST_RATE and BUSY[0] <= busy <= BUSY[1] and now >= self._next_try:
            self._rate_of_all = rate
            self._is_alone = True

    def _go_on_alone(self, rate: float, now: float) -> None:
        if rate >= self._rate_of_all * NO_SLOWER:
            return
        self.call_all()
        self._next_try = now + self._patience
        self._patience = min(2 * self._patience, LONGEST_PATIENCE)
