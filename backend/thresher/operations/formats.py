"""Numbers and sentences as people read them."""

from __future__ import annotations

from thresher.engine.work import SINGLE, Fallback


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``42 s``, ``3:05 min``, ``2:07 h``."""
    if seconds < 9.95:  # tenths matter below; what rounds to 10 does not
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:  # a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def sentence(text: str) -> str:
    """A text with one full stop at its end, or the mark that it has."""
    text = text.rstrip(".")
    return text if text.endswith(("?", "!")) else f"{text}."


def fallback_line(fallback: Fallback) -> str:
    """What happened instead of what was meant, and why."""
    if fallback.after == SINGLE:
        return f"a node of a batch is read by itself: {sentence(fallback.reason)}"
    return f"mode {fallback.before} cannot work ({fallback.reason.rstrip('.')}): going on in mode {fallback.after}."


def size(count: int) -> str:
    """Bytes for people: ``812 B``, ``20.1 KB``, ``1.2 GB`` (powers of 1,000)."""
    number = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":  # SI
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")
