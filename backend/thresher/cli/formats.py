"""Numbers as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``42 s``, ``3:05 min``, ``2:07 h``."""
    if seconds < 9.95:  # tenths matter below; what rounds to 10 does not
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:  # a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"
