"""What the requests of one attempt cost, also where one of them ends after the attempt."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from thresher.engine.work import Usage


class Bill:
    """The usage of one attempt. Safe for any thread: of two requests that race, the slower ends when it likes.

    ``amend`` is told how what the attempt was stored with has to change, once it is stored.
    """

    def __init__(self, amend: Callable[[Usage], None]) -> None:
        self._amend = amend
        self._lock = Lock()  # protects all below
        self._settled = Usage.none()
        self._open: list[Usage] = []  # what requests under way may take at most
        self._is_closed = False
        self._is_stored = False
        self._late = Usage.none()  # learned after the attempt had ended, before it was stored

    @property
    def usage(self) -> Usage:
        """What its requests took; those that are under way are held to take their most."""
        with self._lock:
            return self._sum()

    def add(self, usage: Usage) -> None:
        """Adds what a request cost."""
        with self._lock:
            self._settled += usage

    def open(self, most: Usage) -> Callable[[Usage], None]:
        """Adds a request that is sent now and may take ``most``; returns what to call with what it took."""
        with self._lock:
            self._open.append(most)

        def settle(took: Usage) -> None:
            with self._lock:
                if not self._is_closed:
                    self._open = [other for other in self._open if other is not most]
                    self._settled += took
                    return
                change = took - most
                if not self._is_stored:
                    self._late += change
                    return
            self._amend(change)

        return settle

    def close(self) -> Usage:
        """Ends it; returns what the attempt is stored with."""
        with self._lock:
            self._is_closed = True
            return self._sum()

    def stored(self) -> None:
        """Says that the attempt is stored: from now on it can be amended."""
        with self._lock:
            self._is_stored, late = True, self._late
        if late is not Usage.none():
            self._amend(late)

    def _sum(self) -> Usage:
        return sum(self._open, self._settled)
