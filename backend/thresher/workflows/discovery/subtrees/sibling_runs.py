"""Finds, in bytes, runs of elements of one name that stand side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from thresher.workflows.discovery.subtrees.limits import Limits
from thresher.workflows.discovery.subtrees.paths import NDC_PREFIX
from thresher.workflows.discovery.subtrees.tokens import TAG

Place = tuple[int, int]  # start and end, in the bytes that were looked at

_BEFORE_NAME = b"<:_/"  # the underscore ends "IATA_", the slash begins an end tag
_GREATER, _SLASH = ord(">"), ord("/")
_MIN_REACH = 4_096
_MAX_REACH = 1_048_576


class SiblingRuns:
    """Finds runs of elements that can be taken as they are, each name by one pass over the bytes.

    The places where an element's local name ends like a tag's name must be a start tag and an end tag in turns:
    then none is within another. How far a look reaches doubles with each run, and falls back where something was
    in the way, so that the bytes behind an obstacle are not looked at again and again.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reach = _MIN_REACH

    def find(self, data: bytes, at: int, target: tuple[bytes, int], others: Iterable[bytes]) -> list[Place]:
        """The elements like ``target`` (name as written, depth) that follow ``at`` with only blanks between.

        None declares namespaces, is empty, too large or too deep, or holds a comment, a CDATA section, an
        instruction or an element of a local name in ``others``.
        """
        name, depth = target
        places = list(self._in_turns(data, at, name, depth))
        if not places:
            self._reach = min(2 * self._reach, _MAX_REACH)
            return places
        first, last = places[0][0], places[-1][1]
        stop = first_element(data, others, first, first_markup(data, first, last))
        self._reach = min(2 * self._reach, _MAX_REACH) if stop == last else _MIN_REACH
        while places and places[-1][1] > stop:
            places.pop()
        return places

    def _in_turns(self, data: bytes, at: int, name: bytes, depth: int) -> Iterator[Place]:
        opening, closing, own = b"<" + name, b"</" + name + b">", local_name(name)
        before, largest = len(opening) - len(own), self._limits.max_subtree_bytes
        may_be_rich = min(7 * (self._limits.max_depth - depth), 5 * self._limits.max_attributes)
        hits = _like_a_tag(own).finditer(data, at, at + self._reach)
        end = at
        for hit, following in zip(hits, hits, strict=False):
            start, stop = hit.start() - before, following.start() - before - 1
            if not (data.startswith(opening, start) and data.startswith(closing, stop)):
                return
            size = stop - start
            if size >= largest or (size >= may_be_rich and self._is_rich(data, start, stop, depth)):
                return
            if not data[end:start].isspace() and end != start:
                return
            if data[hit.end() - 1] != _GREATER and not _is_plain_tag(data, start, stop):
                return
            end = stop + len(closing)
            yield start, end

    def _is_rich(self, data: bytes, start: int, stop: int, depth: int) -> bool:
        """Whether an element may nest too deep or have too many attributes: most are too short to be counted.

        A level takes at least 7 bytes (``<a></a>``), an attribute 5. One byte is counted much faster than two.
        """
        size, levels, attributes = stop - start, self._limits.max_depth - depth, self._limits.max_attributes
        if size >= 7 * levels and data.count(b"/", start, stop) >= levels and data.count(b"</", start, stop) >= levels:
            return True
        return size >= 5 * attributes and data.count(b"=", start, stop) > attributes


def local_name(name: bytes) -> bytes:
    """A name as written, without its prefix and without that of NDC."""
    return name.rpartition(b":")[2].removeprefix(NDC_PREFIX.encode())


def first_markup(data: bytes, start: int, stop: int) -> int:
    """Where the first comment, CDATA section, declaration or instruction starts; ``stop`` where there is none."""
    for sign in (b"!", b"?"):
        if data.find(sign, start, stop) >= 0:
            found = data.find(b"<" + sign, start, stop)
            stop = found if found >= 0 else stop
    return stop


def first_element(data: bytes, names: Iterable[bytes], start: int, stop: int) -> int:
    """Where the first tag of one of some local names may stand; ``stop`` where there is none."""
    for pattern in _like_tags(tuple(names)):
        for hit in pattern.finditer(data, start, stop):
            if data[hit.start() - 1] in _BEFORE_NAME:
                stop = hit.start()
                break
    return stop


def _is_plain_tag(data: bytes, start: int, stop: int) -> bool:
    """Whether a start tag with attributes is complete, not that of an empty element, and declares no namespaces."""
    tag = TAG.match(data, start, stop)
    return tag is not None and data[tag.end() - 2] != _SLASH and data.find(b"xmlns", start, tag.end()) < 0


@lru_cache(maxsize=1_024)
def _like_tags(locals_: tuple[bytes, ...]) -> tuple[re.Pattern[bytes], ...]:
    """Names and a byte that can end a name in a tag, one pattern for all that begin alike.

    Each begins with a literal: ``re`` then looks at nothing but the places of that byte.
    """
    rests: dict[bytes, list[bytes]] = {}
    for name in sorted(locals_):
        rests.setdefault(name[:1], []).append(re.escape(name[1:]))
    return tuple(
        re.compile(re.escape(first) + rb"(?:%s)[ \t\r\n/>]" % b"|".join(rest)) for first, rest in rests.items()
    )


@lru_cache(maxsize=1_024)
def _like_a_tag(local: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(local) + rb"[ \t\r\n/>]")
