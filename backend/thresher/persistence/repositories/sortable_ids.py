"""Identifiers of rows: short enough to type, and sorted as text they are sorted by time of creation."""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, in the order of ASCII: no i, l, o, u
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_TIME_DIGITS = 9  # of 5 bits: milliseconds until the year 3135
_RANDOM_DIGITS = 3  # 1 in 32,768 for two processes within the same millisecond; the primary key refuses the second


class SortableIds:
    """Makes identifiers, a letter (``r`` for runs) and 12 digits; no two of one maker have the same millisecond."""

    def __init__(self, letter: str) -> None:
        self._letter = letter
        self._last = 0
        self._lock = threading.Lock()  # protects _last

    def new(self, now: datetime) -> str:
        """The next identifier; later than all before it even where the clock stands still or goes back."""
        milliseconds = int((now - _EPOCH).total_seconds() * 1000)
        with self._lock:
            self._last = max(self._last + 1, milliseconds)
            milliseconds = self._last
        chance = secrets.randbits(5 * _RANDOM_DIGITS)
        return self._letter + _digits(milliseconds, _TIME_DIGITS) + _digits(chance, _RANDOM_DIGITS)


def _digits(number: int, count: int) -> str:
    return "".join(_ALPHABET[number >> (5 * place) & 31] for place in reversed(range(count)))
