"""Finds, in bytes, the ends of elements that need no look at their inside."""

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
SAMPLED = -2
"""The answer where an element is to be read all the same, for its names to be counted."""
UNFIT = -3
"""The answer where something inside an element could matter, or it is too large."""
_MAX_NAMES = 64
_MAX_KEPT = 1_024
# What is saved by leaving out fewer bytes than this is less than what it takes.
_WORTH_BYTES = 512
_WORTH_BYTES_EACH = 160
_CREDIT, _MAX_CREDIT = 4, 16
# At least one run of targets in so many is read element by element all the same, so that distinct names are counted.
_MAX_STRIDE = 8


class Skipper:
    """Tells the parser how far it may read without calling back for each element: most of its time goes there.

    Sound because expat still checks every byte. Between a start tag and the next end tag of that name, with no
    comment, CDATA section, instruction or element of that name in between, that end tag is the element's own, or
    the document is malformed. Where more than that could matter (targets within, depth, attributes), the answer
    is UNFIT and the element is read with all within it. So it is with targets, and with elements that repeat and
    that no path matches: they are left out.
    """

    def __init__(self, paths: Sequence[SubtreePath], limits: Limits) -> None:
        self._paths = paths
        self._limits = limits
        self._expected: set[bytes] = set()  # names of targets
        self._credits: dict[bytes, int] = {}  # by names of other elements; those without credit are not looked for
        self._starts: re.Pattern[bytes] | None = None
        self._expect({path.steps[-1].local.encode() for path in paths} - {b"*"})
        self._inner: dict[tuple[frozenset[tuple[int, int]], bytes], tuple[bytes, ...] | None] = {}
        self._until_sample = 1
        self._stride = 1
        self._runs = SiblingRuns(limits)

    def expect(self, window: Window, start: int) -> None:
        """Notes the name, as written, of a target: more of them may follow."""
        found = _RAW_NAME.match(window.data, start - window.start)
        if found and found[1] not in self._expected:
            self._expect({found[1]})

    def expect_repeated(self, window: Window, start: int) -> None:
        """Notes the name, as written, of an element that no path matches and that stands beside others like it."""
        found = _RAW_NAME.match(window.data, start - window.start)
        if found and found[1] not in self._credits:
            self._credits[found[1]] = _CREDIT
            self._look_for_names()

    def may_leave_out(self, name: bytes) -> bool:
        """Whether it is worth a try to leave out an element of this name that no path matches."""
        return self._credits.get(name, 0) > 0

    def note_use(self, name: bytes, passed: int, elements: int) -> None:
        """Tells how many bytes and elements were left out where an element of this name started.

        A name that no path matches and that was looked for in vain too often is not looked for any more.
        """
        if name not in self._credits:
            return
        is_worth_it = passed >= max(_WORTH_BYTES, elements * _WORTH_BYTES_EACH)
        credit = self._credits[name] + (1 if is_worth_it else -1)
        self._credits[name] = min(credit, _MAX_CREDIT)
        if credit == 0:
            self._look_for_names()

    def _expect(self, names: set[bytes]) -> None:
        self._expected.update(sorted(names)[: _MAX_NAMES - len(self._expected)])
        self._look_for_names()

    def _look_for_names(self) -> None:
        repeated = [name for name, credit in self._credits.items() if credit > 0 and name not in self._expected]
        names = [*sorted(self._expected), *repeated][:_MAX_NAMES]
        self._starts = re.compile(rb"<(%s)[\s/>]" % b"|".join(map(re.escape, names))) if names else None

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

    def end_of_element(self, window: Window, at: int, element: tuple[bytes, int, int], state: State) -> int:
        """Behind the end tag of an element (name, start, depth) whose start tag ends before ``at``.

        Or MORE, SAMPLED or UNFIT.
        """
        name, start, depth = element
        data, base = window.data, window.start
        closing = b"</" + name + b">"
        furthest = start - base + self._limits.max_subtree_bytes
        end = data.find(closing, at - base, furthest)
        if end < 0 and len(data) < furthest:
            return MORE
        if end < 0:
            return UNFIT
        if self._is_sampled():
            return SAMPLED
        inner, inside = self._inner_names(state, name), data[at - base : end]
        if inner is None or not self._is_plain(inside, depth):
            return UNFIT
        if first_element(inside, inner, 0, len(inside)) < len(inside):
            return UNFIT
        return base + end + len(closing)

    def siblings(self, window: Window, at: int, target: tuple[bytes, int], state: State) -> list[tuple[int, int]]:
        """The places of the targets that follow one (name, depth) that ended at ``at`` with only blanks between.

        They have its name and no namespaces of their own; as far as they are in the window and can be taken whole.
        """
        inner = self._inner_names(state, target[0])
        if inner is None:
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
            self._inner[key] = self._needed_within(state, local_name(name))
        return self._inner[key]

    def _needed_within(self, state: State, own: bytes) -> tuple[bytes, ...] | None:
        """One name of each path's steps to come, as few as possible: without it nothing can match; None for ``*``."""
        chosen = {own}
        for number, step in sorted(state.places, key=lambda place: place[1], reverse=True):
            steps = self._paths[number].steps[step:]
            names = [each.local.removeprefix(NDC_PREFIX).encode() for each in steps if each.local != "*"]
            if not names:
                return None
            if chosen.isdisjoint(names):
                chosen.add(names[-1])
        return tuple(sorted(chosen))
