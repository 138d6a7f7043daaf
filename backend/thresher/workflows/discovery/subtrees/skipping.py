"""Finds, in bytes, the ends of targets that need no look at their inside."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thresher.workflows.discovery.subtrees.limits import Limits
from thresher.workflows.discovery.subtrees.matching import State
from thresher.workflows.discovery.subtrees.paths import NDC_PREFIX, SubtreePath
from thresher.workflows.discovery.subtrees.window import Window

_RAW_NAME = re.compile(rb"<([^\s/>]+)")
_MAX_NAMES = 64
_MAX_KEPT = 1_024
_MAX_LOOKS = 12
_AFTER_NAME = b" \t\r\n/>"
_BEFORE_NAME = b"<:_"  # the underscore ends "IATA_"
# One target in so many is read element by element all the same, so that distinct names are counted.
_SAMPLED = 32


class Skipper:
    """Tells the parser how far it may read without calling back for each element: most of its time goes there.

    Sound because expat still checks every byte. Between a start tag and the next end tag of that name, with no
    comment, CDATA section, instruction or element of that name in between, that end tag is the element's own, or
    the document is malformed. Where more than that could matter (targets within, depth, attributes), the answer
    is None and the target is read element by element.
    """

    def __init__(self, paths: Sequence[SubtreePath], limits: Limits) -> None:
        self._paths = paths
        self._limits = limits
        self._names: set[bytes] = set()
        self._starts: re.Pattern[bytes] | None = None
        self._inner: dict[tuple[frozenset[tuple[int, int]], bytes], tuple[bytes, ...] | None] = {}
        self._asked = 0

    def learn(self, window: Window, start: int) -> None:
        """Notes the name, as written, of a target: more of them may follow."""
        found = _RAW_NAME.match(window.data, start - window.start)
        if found and found[1] not in self._names and len(self._names) < _MAX_NAMES:
            self._names.add(found[1])
            names = b"|".join(map(re.escape, sorted(self._names)))
            self._starts = re.compile(rb"<(?:%s)[\s/>]" % names)

    def next_start(self, window: Window, at: int) -> tuple[int, int]:
        """The next tag with the name of a target, (start, end); (-1, end of the window) where there is none."""
        found = window.search(self._starts, at, window.end) if self._starts else None
        end = window.find(b">", window.start + found.end() - 1, window.end) if found else -1
        if found is None or end < 0:
            return -1, window.end
        return window.start + found.start(), end + 1

    def closing_tag(self, window: Window, at: int, start: int, state: State, depth: int) -> tuple[int, int] | None:
        """The place of the end tag of the target at ``start``, whose start tag ends before ``at``."""
        found = _RAW_NAME.match(window.data, start - window.start)
        self._asked += 1
        if found is None or self._asked % _SAMPLED == 0:
            return None
        closing = b"</" + found[1] + b">"
        end = window.find(closing, at, start + self._limits.max_subtree_bytes)
        if end < 0 or not self._is_plain(window, at, end, depth):
            return None
        inner = self._inner_names(state, found[1])
        if inner is None or any(_holds_element(window, name, at, end) for name in inner):
            return None
        return end, end + len(closing)

    def _is_plain(self, window: Window, at: int, end: int, depth: int) -> bool:
        return (
            window.find(b"<!", at, end) < 0
            and window.find(b"<?", at, end) < 0
            and depth + window.count(b"</", at, end) < self._limits.max_depth
            and window.count(b"=", at, end) <= self._limits.max_attributes
        )

    def _inner_names(self, state: State, name: bytes) -> tuple[bytes, ...] | None:
        """Names of elements that must not stand within a target; None where anything could be a target."""
        key = (state.places, name)
        if key not in self._inner:
            if len(self._inner) >= _MAX_KEPT:
                self._inner.clear()
            wanted = {self._paths[number].steps[step].local for number, step in state.places}
            names = {local.removeprefix(NDC_PREFIX).encode() for local in wanted}
            names.add(name.rpartition(b":")[2].removeprefix(NDC_PREFIX.encode()))
            self._inner[key] = None if "*" in wanted else tuple(sorted(names))
        return self._inner[key]


def _holds_element(window: Window, name: bytes, start: int, end: int) -> bool:
    """Whether a start tag of this local name may stand between two offsets; True where it is not clear soon."""
    data, at, stop = window.data, start - window.start, end - window.start
    for _ in range(_MAX_LOOKS):
        at = data.find(name, at, stop)
        if at < 0:
            return False
        follows = data[at + len(name)]
        if follows in _AFTER_NAME and data[at - 1] in _BEFORE_NAME:
            return True
        at += len(name)
    return True
