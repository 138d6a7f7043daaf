"""A place of the source for people: the markup that a fact was read from, and where in it each of its paths leads."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from xml.parsers import expat

from thresher.workflows.discovery.subtrees.tokens import TAG

_ATTRIBUTE = re.compile(rb"""\s([^\s=/>]+)\s*=\s*(?:"[^"]*"|'[^']*')""")
_STEP = re.compile(r"(@?[^\[\]]+)(?:\[([0-9]{1,10})\])?")

_Path = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Characters of an excerpt, from ``start`` to ``end``: an attribute, or an element with its tags."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Markup as it stands in the document. ``places``: where the paths lead that were asked for, as far as they do.

    ``above`` counts the characters at the beginning that are start tags of the elements around a piece of a subtree,
    which stand further up in the document.
    """

    xml: str
    places: Mapping[str, Place]
    above: int = 0


@dataclass(slots=True)
class _Open:
    """An open element: its path, where its start tag begins and ends; its children so far, by name."""

    path: _Path
    start: int
    tag_end: int
    children: dict[str, int] = field(default_factory=dict)


def excerpt(element: bytes, paths: Collection[str], begin: int = 0) -> Excerpt:
    """What is written from ``begin`` on in an element, which may be cut off at its end, and where paths lead in it.

    ``element`` is UTF-8, from the start tag of the subtree's root. ``paths`` count in it as facts do:
    ``Service[2]/Price/@Code``, by local names, ``.`` for the root itself.
    """
    reader = _Reader(element, paths, begin)
    reader.read()
    parts = [(tag.start, tag.tag_end) for tag in reader.around if tag.tag_end <= begin] + [(begin, len(element))]
    above = sum(end - start for start, end in parts[:-1])
    written = b"".join(element[start:end] for start, end in parts)
    moved = {path: _moved(place, parts) for path, place in reader.found.items()}
    places = {path: _in_characters(place, written) for path, place in moved.items() if place is not None}
    return Excerpt(written.decode("utf-8", "replace"), places, len(written[:above].decode("utf-8", "replace")))


class _Reader:
    """Follows the elements of a subtree and notes where wanted paths stand, in bytes."""

    def __init__(self, element: bytes, paths: Collection[str], begin: int) -> None:
        self._element = element
        self._begin = begin
        self._wanted = _by_element(paths)
        self._open: list[_Open] = []
        self._unfinished: dict[str, int] = {}
        self.found: dict[str, tuple[int, int]] = {}
        self.around: Sequence[_Open] = ()  # the elements that are open where the excerpt begins
        self._has_begun = False

    def read(self) -> None:
        """Reads all of it; what is cut off at the end counts as far as it goes."""
        parser = expat.ParserCreate("utf-8")
        parser.StartElementHandler = lambda name, _attributes: self._on_start(name, parser.CurrentByteIndex)
        parser.EndElementHandler = lambda _name: self._on_end(parser.CurrentByteIndex)
        with suppress(expat.ExpatError):  # the element is cut off in a tag, or over: what was found stands
            parser.Parse(self._element, False)  # noqa: FBT003 # a piece ends before its elements do
        self._reach(len(self._element))
        for path, start in self._unfinished.items():
            self.found.setdefault(path, (start, len(self._element)))

    def _reach(self, place: int) -> None:
        if not self._has_begun and place >= self._begin:
            self._has_begun = True
            self.around = tuple(self._open)

    def _on_start(self, written: str, start: int) -> None:
        self._reach(start)
        tag = TAG.match(self._element, start)
        tag_end = tag.end() if tag else len(self._element)
        path: _Path = ()
        if self._open:
            name, above = _local(written), self._open[-1]
            above.children[name] = number = above.children.get(name, 0) + 1
            path = (*above.path, (name, number))
        self._open.append(_Open(path, start, tag_end))
        wanted = self._wanted.get(path)
        if wanted:
            self._note(wanted, start, tag_end)

    def _note(self, wanted: Mapping[str, str], start: int, tag_end: int) -> None:
        if "" in wanted:
            self._unfinished.setdefault(wanted[""], start)
        for attribute in _ATTRIBUTE.finditer(self._element, start, tag_end):
            path = wanted.get(_local(attribute[1].decode()))
            if path is not None:
                self.found.setdefault(path, (attribute.start() + 1, attribute.end()))

    def _on_end(self, index: int) -> None:
        self._reach(index)
        element = self._open.pop()
        end = element.tag_end
        if not self._element.endswith(b"/>", 0, end):  # else the parser stands behind its only tag already
            tag = TAG.match(self._element, index)
            end = tag.end() if tag else len(self._element)
        path = self._wanted.get(element.path, {}).get("")
        if path is not None and path in self._unfinished:
            self.found.setdefault(path, (self._unfinished.pop(path), end))


def _by_element(paths: Collection[str]) -> Mapping[_Path, Mapping[str, str]]:
    """Steps of an element -> attribute (empty: the element itself) -> the path that means it."""
    wanted: dict[_Path, dict[str, str]] = {}
    for path in paths:
        steps = _steps(path)
        if steps is None:
            continue
        attribute = ""
        if steps and steps[-1][0].startswith("@"):
            attribute, steps = steps[-1][0][1:], steps[:-1]
        wanted.setdefault(steps, {})[attribute] = path
    return wanted


def _steps(path: str) -> _Path | None:
    """Names and numbers; None where it is no path of a fact (a model may have named anything)."""
    if path == ".":
        return ()
    found = [_STEP.fullmatch(step) for step in path.split("/")]
    return None if None in found else tuple((step[1], int(step[2] or 1)) for step in found if step)


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _moved(place: tuple[int, int], parts: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """A place of the element in the parts that are shown of it; None where none of them holds it."""
    before = 0
    for start, end in parts:
        if start <= place[0] and place[1] <= end:
            return place[0] - start + before, place[1] - start + before
        before += end - start
    return None


def _in_characters(place: tuple[int, int], written: bytes) -> Place:
    start, end = place
    first = len(written[:start].decode("utf-8", "replace"))
    return Place(first, first + len(written[start:end].decode("utf-8", "replace")))
