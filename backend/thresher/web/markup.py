"""Markup as people read it: its parts told apart by colour, places marked, long texts folded. All of it is text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thresher.workflows.discovery.excerpts import Excerpt

LONGEST_TEXT = 1_200  # characters of a text that is shown whole
LONGEST_SHOWN = 120_000  # characters of an excerpt
_FOLDED_ENDS = 240
_SINGLE_LINE = 160  # characters from which on markup without line breaks gets some

_TOKEN = re.compile(
    r"(?P<other><!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>)|"
    r"(?P<tag></?[^<>\"'\s/]+(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>)|(?P<text>[^<]+|<)",
    re.DOTALL,
)
_TAG_PART = re.compile(
    r"(?P<tag></?[^\s<>/=]+|/?>)|(?P<name>[^\s=<>\"'/]+(?=\s*=))|(?P<value>\"[^\"]*\"|'[^']*')|(?P<gap>[\s=/]+|.)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place that is marked: ``number`` names it on the page. ``is_proof`` False: it was named, but proves nothing."""

    start: int
    end: int
    number: int
    is_proof: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What is written next: a ``text`` of a ``kind`` (tag, name, value, gap, other, text), or a mark opens, ends."""

    kind: str
    text: str = ""
    mark: Mark | None = None


def parts_of(found: Excerpt, marks: Sequence[Mark]) -> Iterator[Part]:
    """An excerpt piece by piece; every ``open`` has its ``end``, and they nest."""
    shown = found.xml[:LONGEST_SHOWN]
    layout = _Layout(shown)
    edges = _Edges([mark for mark in marks if mark.end <= len(shown)])
    for start, end, kind in _tokens(shown):
        yield from edges.until(start)
        if kind == "tag-begin":
            yield from layout.before_tag(shown[start:end], start)
            continue
        place = start
        for cut in (*edges.within(start, end), end):
            yield from layout.text(kind, shown[place:cut])
            place = cut
            yield from edges.until(cut) if cut < end else ()
    yield from edges.until(len(shown))
    if len(shown) < len(found.xml):
        yield Part("fold", f"… {len(found.xml) - len(shown):,} more characters")


def _tokens(xml: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and kind of all parts of the markup; a ``tag-begin`` comes before the parts of a tag."""
    for token in _TOKEN.finditer(xml):
        kind = str(token.lastgroup)
        if kind != "tag":
            yield token.start(), token.end(), kind
            continue
        yield token.start(), token.end(), "tag-begin"
        for part in _TAG_PART.finditer(xml, token.start(), token.end()):
            yield part.start(), part.end(), str(part.lastgroup)


class _Edges:
    """Where marks begin and end, in the order in which they are written. Marks nest, as elements do."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        self._waiting = sorted(marks, key=lambda mark: (mark.start, -mark.end))
        self._open: list[Mark] = []

    def until(self, place: int) -> Iterator[Part]:
        """All marks that end or begin up to there."""
        while True:
            if self._open and self._open[-1].end <= place:
                yield Part("end", mark=self._open.pop())
            elif self._waiting and self._waiting[0].start <= place and self._waiting[0].end > place:
                self._open.append(self._waiting.pop(0))
                yield Part("open", mark=self._open[-1])
            elif self._waiting and self._waiting[0].end <= place:
                self._waiting.pop(0)
            else:
                return

    def within(self, start: int, end: int) -> Sequence[int]:
        """The places at which a text is cut, because a mark begins or ends in it."""
        edges = {edge for mark in (*self._open, *self._waiting) for edge in (mark.start, mark.end)}
        return sorted(edge for edge in edges if start < edge < end)


class _Layout:
    """Takes off the indentation that all lines share; breaks lines where the document has none. Folds long texts."""

    def __init__(self, xml: str) -> None:
        self._breaks = len(xml) > _SINGLE_LINE and "\n" not in xml
        indents = [len(line) - len(line.lstrip(" \t")) for line in xml.splitlines()[1:] if line.strip()]
        self._shared = min(indents, default=0)
        self._depth = 0
        self._was_tag = False

    def before_tag(self, tag: str, start: int) -> Iterator[Part]:
        """A line break and the indentation, where the document has none and a tag follows a tag."""
        is_end, is_empty = tag.startswith("</"), tag.endswith("/>")
        self._depth -= is_end
        if self._breaks and self._was_tag and start:
            yield Part("break", "\n" + "  " * max(self._depth, 0))
        self._depth += not is_end and not is_empty
        self._was_tag = True

    def text(self, kind: str, text: str) -> Iterator[Part]:
        """What is shown of a text."""
        self._was_tag = self._was_tag and kind not in {"text", "other"}
        if self._shared and "\n" in text:
            text = re.sub(rf"\n[ \t]{{{self._shared}}}", "\n", text)
        if len(text) <= LONGEST_TEXT:
            if text:
                yield Part(kind, text)
            return
        yield Part(kind, text[:_FOLDED_ENDS])
        yield Part("fold", f" … {len(text) - 2 * _FOLDED_ENDS:,} characters … ")
        yield Part(kind, text[-_FOLDED_ENDS:])


def marks_of(found: Excerpt, proved: Mapping[str, bool]) -> Sequence[Mark]:
    """The places of paths, numbered as they stand; ``proved``: whether a value at the path is proved by it."""
    placed = sorted(found.places.items(), key=lambda entry: (entry[1].start, -entry[1].end))
    return [Mark(place.start, place.end, number, proved[path]) for number, (path, place) in enumerate(placed, 1)]
