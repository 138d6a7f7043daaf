"""The part of a document that is in memory, addressed by offsets from the document's start."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thresher.workflows.discovery.subtrees.encoding import Encoding
from thresher.workflows.discovery.subtrees.tokens import TAG

_GREATER = ord(">")


class Window:
    """UTF-8 bytes from ``start`` to ``end``; appended at the end, forgotten from the start.

    Knows where an offset in UTF-8 lies in the source's own encoding. Offsets must be asked for in rising order.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self.has_source_offsets = encoding.has_stable_offsets
        self._is_identity = encoding.is_utf8
        self.data = b""
        self.start = 0
        self._known = (0, encoding.mark)  # an offset in UTF-8, the same place in the source

    @property
    def end(self) -> int:
        """Behind the last byte."""
        return self.start + len(self.data)

    def append(self, chunk: bytes) -> None:
        """Adds what comes next."""
        self.data += chunk

    def slice(self, start: int, end: int) -> bytes:
        """The bytes between two offsets."""
        return self.data[start - self.start : end - self.start]

    def find(self, needle: bytes, start: int, end: int) -> int:
        """Where ``needle`` stands between two offsets, -1 where it does not."""
        found = self.data.find(needle, start - self.start, end - self.start)
        return found + self.start if found >= 0 else -1

    def count(self, needle: bytes, start: int, end: int) -> int:
        """How often ``needle`` stands between two offsets."""
        return self.data.count(needle, start - self.start, end - self.start)

    def search(self, pattern: re.Pattern[bytes], start: int, end: int) -> re.Match[bytes] | None:
        """The first match between two offsets; its places count from the window's start."""
        return pattern.search(self.data, start - self.start, end - self.start)

    def forget(self, offset: int) -> None:
        """Lets go of everything before an offset."""
        if self.has_source_offsets and not self._is_identity and offset > self._known[0]:
            self.source_offset(offset)
        self.data = self.data[max(0, offset - self.start) :]
        self.start = max(self.start, offset)

    def end_of_element(self, start: int, end_event: int) -> int:
        """Behind an element that starts at ``start``, when the parser's end event is at ``end_event``.

        expat places that event at the end tag; of an empty element (``<a/>``) it is behind the tag.
        """
        data, base = self.data, self.start
        at = end_event - base
        if data[at - 1] == _GREATER and start >= base and data.startswith(b"/>", at - 2):
            found = TAG.match(data, start - base)
            if found and found.end() == at:
                return end_event
        return data.index(b">", at) + 1 + base

    def source_offset(self, offset: int) -> int:
        """Where an offset lies in the source; 0 where its encoding does not tell."""
        if self._is_identity:
            return offset + self._encoding.mark
        if not self.has_source_offsets:
            return 0
        utf8, source = self._known
        self._known = (offset, source + self._encoding.width(self.slice(utf8, offset)))
        return self._known[1]

    def source_places(self, places: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Where pairs of offsets lie in the source."""
        mark = self._encoding.mark
        if self._is_identity:
            return [(start + mark, stop + mark) for start, stop in places] if mark else places
        return [(self.source_offset(start), self.source_offset(stop)) for start, stop in places]
