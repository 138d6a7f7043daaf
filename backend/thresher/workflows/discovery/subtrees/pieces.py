"""An element that is too large, cut into pieces while it streams by."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from thresher.core.errors import UnsafeDocument
from thresher.workflows.discovery.subtrees.limits import Limits
from thresher.workflows.discovery.subtrees.tokens import Kind, Token, Tokenizer

_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>]+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG_NAME = re.compile(rb"<[^\s/>]+")
_LONG_VALUE = 128  # bytes of an attribute, quotes included, that a crowded shell still shows
_MIN_SEGMENT = 256


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an element: ``start`` and ``end`` are bytes of the source from the element's own start."""

    number: int
    xml: bytes
    start: int
    end: int
    shells: dict[str, dict[str, int]]
    follows: bool


@dataclass(slots=True)
class _Open:
    """An open element. ``missing``: children by name that stand in earlier pieces; ``unit``: its last child.

    ``unit`` is where in the piece's parts that child (or text, comment) begins, -1 where it began earlier.
    """

    tag: bytes
    name: bytes
    ordinal: int
    counts: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    unit: int = -1
    unit_name: str = ""

    @property
    def local(self) -> str:
        return _local(self.name)

    @property
    def closing(self) -> bytes:
        return b"</" + self.name + b">"


@dataclass(frozen=True, slots=True)
class _Part:
    xml: bytes
    width: int
    is_solid: bool  # more than a start tag or blanks


class PieceCutter:
    """Cuts an element into pieces of at most ``max_subtree_bytes``, fed with its UTF-8 as it comes.

    A piece is a run of neighbours (children, texts, comments) within the start tags of the elements around
    them, from the element itself down. A child too large for a piece is cut in turn, a text too large at white
    space. All pieces together hold every byte of the element's content once.
    """

    def __init__(self, declarations: bytes, limits: Limits, width: Callable[[bytes], int] = len) -> None:
        self._declarations = declarations
        self._limit = limits.max_subtree_bytes
        self._limits = limits
        self._tokens = Tokenizer(self._room_for_text, width)
        self._stack: list[_Open] = []
        self._parts: list[_Part] = []
        self._first = 0  # where in the parts the shells end and the content begins
        self._size = 0
        self._closing = 0
        self._position = 0
        self._number = 0
        self._shells: dict[str, dict[str, int]] = {}
        self._ready: list[Piece] = []

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Reads on; yields pieces that are complete and known to be followed by another."""
        for token in self._tokens.feed(data):
            self._add(token)
            if self._ready:
                yield from self._ready
                self._ready.clear()

    def finish(self) -> Piece:
        """The last piece, once the element's end tag has been fed."""
        shells = self._shells if self._number else {}
        return self._piece(self._parts, b"", shells, follows=False)

    def _add(self, token: Token) -> None:
        if token.kind is Kind.START:
            self._open(token)
        elif token.kind is Kind.END:
            self._close(token)
        else:
            self._begin_unit(token)
            self._make_room(len(self._stack))

    def _open(self, token: Token) -> None:
        name = token.name
        ordinal = self._begin_unit(token)
        self._stack.append(_Open(self._parts[-1].xml, name, ordinal))
        self._closing += len(name) + 3
        if len(self._stack) == 1:
            self._first = len(self._parts)
        self._make_room(len(self._stack) - 1)

    def _begin_unit(self, token: Token) -> int:
        """Appends a token as a new child of the innermost element; returns its number among its namesakes."""
        ordinal = 1
        if self._stack:
            parent = self._stack[-1]
            parent.unit, parent.unit_name = len(self._parts), ""
            if token.kind in {Kind.START, Kind.EMPTY}:
                parent.unit_name = _local(token.name)
                ordinal = parent.counts[parent.unit_name] = parent.counts.get(parent.unit_name, 0) + 1
        self._append(token)
        return ordinal

    def _close(self, token: Token) -> None:
        self._append(token)
        self._closing -= len(self._stack[-1].closing)
        self._make_room(len(self._stack))
        self._stack.pop()

    def _append(self, token: Token) -> None:
        xml = token.xml
        if not self._stack and token.kind in {Kind.START, Kind.EMPTY}:
            xml = declare(xml, self._declarations)
        is_solid = token.kind is not Kind.START and (token.kind is not Kind.TEXT or not xml.isspace())
        self._parts.append(_Part(xml, token.width, is_solid))
        self._size += len(xml)

    def _make_room(self, levels: int) -> None:
        """Cuts the piece off while it is too large, at the outermost place that leaves something before it."""
        while self._size + self._closing > self._limit:
            level = self._level_to_cut(levels)
            if level < 0:
                return
            self._cut(level)

    def _level_to_cut(self, levels: int) -> int:
        for level in range(levels):
            unit = self._stack[level].unit
            if unit > self._first and any(part.is_solid for part in self._parts[self._first : unit]):
                return level
        return self._level_to_leave_tags(levels)

    def _level_to_leave_tags(self, levels: int) -> int:
        """Where start tags alone are most of a piece they get one of their own; the next repeats them shortened."""
        for level in range(levels - 1, -1, -1):
            unit = self._stack[level].unit
            if unit > self._first and sum(len(part.xml) for part in self._parts[self._first : unit]) > self._limit // 2:
                return level
        return -1

    def _cut(self, level: int) -> None:
        around = self._stack[: level + 1]
        at = around[-1].unit
        closing = b"".join(element.closing for element in reversed(around))
        shells = self._shells | {path: {} for path in _seen_paths(around) if path not in self._shells}
        self._ready.append(self._piece(self._parts[:at], closing, shells, follows=True))
        tags = self._shell_tags(around)
        self._parts = [_Part(tag, 0, is_solid=False) for tag in tags] + self._parts[at:]
        self._first = len(tags)
        self._size = sum(len(part.xml) for part in self._parts)
        self._renumber(level, self._first - at)

    def _renumber(self, level: int, shift: int) -> None:
        for depth, element in enumerate(self._stack):
            if depth <= level:
                element.missing = _without_last(element.counts, element.unit_name)
            if depth >= level:
                element.unit += shift if element.unit >= 0 else 0
            else:
                element.unit = -1
        around = self._stack[: level + 1]
        self._shells = {path: element.missing for path, element in zip(_seen_paths(around), around, strict=True)}

    def _piece(
        self, parts: Sequence[_Part], closing: bytes, shells: dict[str, dict[str, int]], *, follows: bool
    ) -> Piece:
        start = self._position
        self._position += sum(part.width for part in parts)
        number = self._number
        self._number += 1
        xml = b"".join([part.xml for part in parts]) + closing
        return Piece(number, xml, start, self._position, shells, follows)

    def _shell_tags(self, around: Sequence[_Open]) -> list[bytes]:
        """The start tags to repeat; without their longer attributes where they would crowd out the content."""
        tags = [element.tag for element in around]
        for longest in (_LONG_VALUE, 0):
            if _total(tags) <= self._limit // 2:
                return tags
            tags = [shorten(tag, longest) for tag in tags]
        if _total(tags) > max(self._limit, self._limits.max_default_bytes * 4):
            raise UnsafeDocument(
                f"An element is too large for one piece, and the {len(tags)} start tags around its parts are "
                f"{_total(tags):,} bytes long by themselves. Raise MAX_SUBTREE_BYTES if you trust the document."
            )
        return tags

    def _room_for_text(self) -> int:
        around = _total([element.tag for element in self._stack])
        around = min(around, self._limit // 2) + self._closing
        return max(self._limit - around - 64, self._limit // 8, _MIN_SEGMENT)


def declare(tag: bytes, declarations: bytes) -> bytes:
    """A start tag, or markup that begins with one, with namespace declarations added."""
    found = _TAG_NAME.match(tag) if declarations else None
    return tag[: found.end()] + declarations + tag[found.end() :] if found else tag


def shorten(tag: bytes, longest: int) -> bytes:
    """A start tag with only its namespace declarations and attributes of up to ``longest`` bytes."""
    name = _TAG_NAME.match(tag)
    kept = [
        found[0]
        for found in _ATTRIBUTE.finditer(tag)
        if len(found[2]) <= longest or found[1] == b"xmlns" or found[1].startswith(b"xmlns:")
    ]
    return (name[0] if name else b"") + b"".join(kept) + b">"


def _seen_paths(around: Sequence[_Open]) -> list[str]:
    """The paths of nested open elements within the present piece, the outermost being its root."""
    paths = ["."]
    for parent, element in itertools.pairwise(around):
        before = "" if paths[-1] == "." else paths[-1] + "/"
        paths.append(f"{before}{element.local}[{element.ordinal - parent.missing.get(element.local, 0)}]")
    return paths


def _without_last(counts: dict[str, int], last: str) -> dict[str, int]:
    return {name: count - (name == last) for name, count in counts.items() if count > (name == last)}


def _local(name: bytes) -> str:
    return name.rpartition(b":")[2].decode("utf-8")


def _total(tags: Sequence[bytes]) -> int:
    return sum(map(len, tags))
