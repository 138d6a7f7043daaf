"""The fallbacks of a run: each way and reason once, with the number of items it concerned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

from thresher.engine.work import Fallback

MOST_REASONS = 20  # kept apart; a server can word the same trouble in endless ways
OTHER_REASONS = "other reasons"


class Fallbacks:
    """Counts fallbacks. Safe from any thread."""

    def __init__(self, earlier: Sequence[Fallback] = ()) -> None:
        self._lock = Lock()  # protects _by_kind
        self._by_kind = {_kind(fallback): fallback for fallback in earlier}

    def add(self, fallback: Fallback) -> bool:
        """Counts one more; whether it is the first of its kind."""
        with self._lock:
            if _kind(fallback) not in self._by_kind and len(self._by_kind) >= MOST_REASONS:
                fallback = replace(fallback, reason=OTHER_REASONS)
            known = self._by_kind.get(_kind(fallback))
            items = fallback.items + (known.items if known is not None else 0)
            self._by_kind[_kind(fallback)] = replace(fallback, items=items)
            return known is None

    def all(self) -> tuple[Fallback, ...]:
        """In the order in which they first happened."""
        with self._lock:
            return tuple(self._by_kind.values())


def _kind(fallback: Fallback) -> tuple[str, str, str]:
    return str(fallback.before), str(fallback.after), fallback.reason
