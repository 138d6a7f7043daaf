"""Answers that are kept back until they are released."""

from __future__ import annotations

import math
from collections.abc import Callable

from thresher.testing.model_server.http import Connection


class Hold:
    """Keeps back the answers of requests with a number above a bound; there is none before ``begin``."""

    def __init__(self) -> None:
        self._after: float = math.inf
        self._parked: dict[Connection, tuple[int, Callable[[], None]]] = {}

    def begin(self, after: float) -> int:
        """From now on answers wait, but for the first ``after`` requests; returns how many of these had waited."""
        self._after = after
        due = [(connection, answer) for connection, (number, answer) in self._parked.items() if number <= after]
        for connection, answer in due:
            del self._parked[connection]
            answer()
        return len(due)

    def release(self) -> int:
        """Ends the hold and gives all answers that wait, the first first; returns how many."""
        return self.begin(math.inf)

    def keeps(self, number: int) -> bool:
        """Whether the answer of the request with this number (from 1) waits."""
        return number > self._after

    def park(self, connection: Connection, number: int, answer: Callable[[], None]) -> None:
        """``answer`` waits for the release."""
        self._parked[connection] = number, answer

    def drop(self, connection: Connection) -> None:
        """Whoever waited for this answer has gone."""
        del self._parked[connection]

    def __len__(self) -> int:
        return len(self._parked)
