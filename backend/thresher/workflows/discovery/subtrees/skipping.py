"""Finds, in bytes, the ends of targets that need no look at their inside."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thresher.workflows.discovery.subtrees.limits import Limits
from thresher.workflows.discovery.subtrees.matching import State
from thresher.workflows.discovery.subtrees.paths import NDC_PREFIX, SubtreePath
from thresher.workflows.discovery.subtrees.sibling_runs import (
    SiblingRuns,
    first_element,
    first_markup,
    local_name,
)
from thresher.workflows.discovery.subtrees.window import Window

_RAW_NAME = re.compile(rb"<([^\s/>]+)")
MORE = -1
"""The answer where more of the document must be read first."""
_MAX_NAMES = 64
_MAX_KEPT = 1_024
# At least one run of targets in so many is read element by element all the same, so that distinct names are counted.
_MAX_STRIDE = 16


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
        self._expect({path.steps[-1].local.encode() for path in paths} - {b"*"})
        self._inner: dict[tuple[frozenset[tuple[int, int]], bytes], tuple[bytes, ...] | None] = {}
        self._until_sample = 1
        self._stride = 1
        self._runs = SiblingRuns(limits)

    def learn(self, window: Window, start: int) -> None:
        """Notes the name, as written, of a target: more of them may follow."""
        found = _RAW_NAME.match(window.data, start - window.start)
        if found and found[1] not in self._names and len(self._names) < _MAX_NAMES:
            self._expect({found[1]})

    def _expect(self, names: set[bytes]) -> None:
        self._names.update(sorted(names)[: _MAX_NAMES - len(self._names)])
        if self._names:
            self._starts = re.compile(rb"<(%s)[\s/>]" % b"|".join(map(re.escape, sorted(self._names))))

    def next_start(self, window: Window, at: int) -> tuple[int, int, bytes]:
        """The next tag with the name of a target: start, end, name; (-1, end of the window) where there is none."""
        if self._starts is not None:
            data, base = window.data, window.start
            found = self._starts.search(data, at - base)
            if found is not None:
                end = data.find(b">", found.end() - 1)
                if end >= 0:
                    return base + found.start(), base + end + 1, found[1]
        return -1, window.end, b""

    def end_of_target(self, window: Window, at: int, target: tuple[bytes, int, int], state: State) -> int | None:
        """Behind the end tag of a target (name, start, depth) whose start tag ends before ``at``; or None or MORE."""
        name, start, depth = target
        data, base = window.data, window.start
        closing = b"</" + name + b">"
        furthest = start - base + self._limits.max_subtree_bytes
        end = data.find(closing, at - base, furthest)
        if end < 0 and len(data) < furthest:
            return MORE
        if end < 0 or self._is_sampled():
            return None
        inside = data[at - base : end]
        if not self._is_plain(inside, depth):
            return None
        inner = self._inner_names(state, name)
        if inner is None:
            return None
        if first_element(inside, inner, 0, len(inside)) < len(inside):
            return None
        return base + end + len(closing)

    def siblings(self, window: Window, at: int, target: tuple[bytes, int], state: State) -> list[tuple[int, int]]:
        """The places of the targets that follow one (name, depth) that ended at ``at`` with only blanks between.

        They have its name and no namespaces of their own; as far as they are in the window and can be taken whole.
        """
        inner = self._inner_names(state, target[0])
        if inner is None or self._is_sampled():
            return []
        own, base = local_name(target[0]), window.start
        others = [each for each in inner if each != own]
        found = self._runs.find(window.data, at - base, target, others)
        return [(base + start, base + end) for start, end in found]

    def note_new_names(self, *, are_new: bool) -> None:
        """Tells whether the last target read element by element had names not seen before: then look often."""
        self._stride = 1 if are_new else min(2 * self._stride, _MAX_STRIDE)

    def _is_plain(self, inside: bytes, depth: int) -> bool:
        """Whether markup holds tags and text only, too few to nest too deep or to have too many attributes.

        A level takes at least 7 bytes (``<a></a>``), an attribute 5; most targets are too short to be counted.
        """
        if first_markup(inside, 0, len(inside)) < len(inside):
            return False
        levels, attributes = self._limits.max_depth - depth, self._limits.max_attributes
        if len(inside) >= 7 * levels and inside.count(b"</") >= levels:
            return False
        return len(inside) < 5 * attributes or inside.count(b"=") <= attributes

    def _is_sampled(self) -> bool:
        self._until_sample -= 1
        if self._until_sample > 0:
            return False
        self._until_sample = self._stride
        return True

    def _inner_names(self, state: State, name: bytes) -> tuple[bytes, ...] | None:
        """Names of elements that must not stand within a target; None where anything could be a target."""
        key = (state.places, name)
        if key not in self._inner:
            if len(self._inner) >= _MAX_KEPT:
                self._inner.clear()
            wanted = {self._paths[number].steps[step].local for number, step in state.places}
            names = {local.removeprefix(NDC_PREFIX).encode() for local in wanted}
            names.add(local_name(name))
            self._inner[key] = None if "*" in wanted else tuple(sorted(names))
        return self._inner[key]
