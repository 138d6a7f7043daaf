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
    works alone, the first, where items end fast, its own among them, the processors are busy with one interpreter's
    work, and nobody has begun to wait for somebody else; it is kept up while that is not slower, and tried again after
    a time that doubles where it was. The moment somebody is about to wait all work again.
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
        self._changed = Condition()  # notified when more may work; protects the two below
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
        with self._changed:
            self._has_waited = True
            if self._is_alone:
                self._is_alone = False
                self._changed.notify_all()

    def wait_for_turn(self, number: int) -> None:
        """Returns when the thread of this number, from 0, may take an item: the first one at once."""
        if number and self._is_alone:
            with self._changed:
                while self._is_alone:
                    self._changed.wait()

    def measure(self, ended: int, by_first: int) -> None:
        """So many items have ended since the last time, so many of them by the first thread: decides who works now.

        A first thread that has ended none may have been waiting all the time.
        """
        now, used = self._clock(), self._processor_time()
        seconds = now - self._measured_at
        rate, busy = ended / seconds, (used - self._used) / seconds
        self._measured_at, self._used = now, used
        is_worth_it = by_first > 0 and rate >= LEAST_RATE and BUSY[0] <= busy <= BUSY[1] and now >= self._next_try
        with self._changed:
            was_alone, has_waited, self._has_waited = self._is_alone, self._has_waited, False
            if is_worth_it and not (was_alone or has_waited):
                self._rate_of_all = rate
                self._is_alone = True
        if was_alone:
            self._go_on_alone(rate, now)

    def _go_on_alone(self, rate: float, now: float) -> None:
        if rate >= self._rate_of_all * NO_SLOWER:
            return
        self.call_all()
        self._next_try = now + self._patience
        self._patience = min(2 * self._patience, LONGEST_PATIENCE)
