"""Answers that are kept back until they are released."""

from __future__ import annotations

import math
from collections.abc import Callable

from thresher.testing.model_server.http import Connection


class Hold:
    """Keeps back the answers of requests with a number above ``after``; there is none before ``begin``."""

    def __init__(self) -> None:
        self._after: float = math.inf
        self._parked: dict[Connection, Callable[[], None]] = {}

    def begin(self, after: int) -> None:
        """From now on answers wait, those of the first ``after`` requests excepted."""
        self._after = after

    def keeps(self, number: int) -> bool:
        """Whether the answer of the request with this number (from 1) waits."""
        return number > self._after

    def park(self, connection: Connection, answer: Callable[[], None]) -> None:
        """``answer`` waits for the release."""
        self._parked[connection] = answer

    def drop(self, connection: Connection) -> None:
        """Whoever waited for this answer has gone."""
        del self._parked[connection]

    def release(self) -> int:
        """Ends the hold and gives all answers that wait, the first first; returns how many."""
        self._after = math.inf
        parked, self._parked = self._parked, {}
        for answer in parked.values():
            answer()
        return len(parked)

    def __len__(self) -> int:
        return len(self._parked)
