"""A stretch of well-formed markup from which elements are cut."""

from __future__ import annotations

from collections.abc import Mapping

from thresher.workflows.discovery.subtrees.base64_text import has_long_run
from thresher.workflows.discovery.subtrees.namespaces import needed


class Markup:
    """Cuts elements out of UTF-8, with the namespaces declared that each can need.

    Texts are cut much faster than bytes that are decoded one by one: where the stretch is ASCII it is decoded once.
    """

    def __init__(self, written: bytes, declared: Mapping[bytes, bytes]) -> None:
        self._written = written
        self._declared = declared
        self._same = _same_for_all(declared, written)
        self._text = written.decode("ascii") if self._same is not None and written.isascii() else None
        self._same_text = (self._same or b"").decode()
        self._same_size = len(self._same or b"")

    def element(self, start: int, stop: int, name_end: int) -> tuple[str, int]:
        """The element between two places, and its size in bytes; its name ends ``name_end`` behind its start."""
        text, head = self._text, start + name_end
        if text is not None:
            return f"{text[start:head]}{self._same_text}{text[head:stop]}", stop - start + self._same_size
        written = self._written[start:stop]
        declared = needed(self._declared, written) if self._same is None else self._same
        return (written[:name_end] + declared + written[name_end:]).decode(), len(written) + len(declared)

    def has_long_run(self, start: int, stop: int) -> bool:
        """Whether the element between two places may hold a text long enough for base64."""
        return has_long_run(self._written, start, stop)


def _same_for_all(declared: Mapping[bytes, bytes], written: bytes) -> bytes | None:
    """What every element of a stretch is to declare; None where that depends on the prefixes that each uses."""
    if any(prefix and prefix in written for prefix in declared):
        return None
    return declared.get(b"", b"")
