"""A document as it will be written: fixed text, and the places where members are streamed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from thresher.workflows.discovery.sample_messages.markup import INDENT, MEMBERS, Lines

_START = re.compile(r"<(?:\w+:)?(\w+)")
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True, slots=True)
class MemberPlace:
    """Where the members called ``name`` stand: their path from the root, by local names, and their depth."""

    name: str
    path: str
    depth: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a document in sequence, and how many members its fixed text holds by path."""

    parts: tuple[bytes | MemberPlace, ...]
    fixed_counts: Counter[str]

    @property
    def places(self) -> tuple[MemberPlace, ...]:
        """The places of members, in sequence."""
        return tuple(part for part in self.parts if isinstance(part, MemberPlace))

    @property
    def fixed_size(self) -> int:
        """The bytes of the fixed text."""
        return sum(len(part) for part in self.parts if isinstance(part, bytes))


def lay_out(document: Lines) -> Layout:
    """Parts a rendered document at its places of members."""
    parts: list[bytes | MemberPlace] = []
    counts: Counter[str] = Counter()
    text = DECLARATION
    for line, path in _with_paths(document):
        name = path[-1]
        where = "/" + "/".join(path)
        if line.lstrip(" ").startswith(MEMBERS):
            parts += [text.encode(), MemberPlace(name, where, len(path) - 1)]
            text = ""
            continue
        text += line + "\n"
        if len(path) > 1 and path[-2].endswith("List") and not line.lstrip(" ").startswith("</"):
            counts[where] += 1
    return Layout((*parts, text.encode()), counts)


def _with_paths(document: Lines) -> Iterator[tuple[str, list[str]]]:
    """Every line with the local names from the root to its element, read from the indentation."""
    path: list[str] = []
    for line in document:
        content = line.lstrip(" ")
        depth = (len(line) - len(content)) // len(INDENT)
        start = _START.match(content)
        if content.startswith(MEMBERS):
            path = [*path[:depth], content[len(MEMBERS) :]]
        elif start:
            path = [*path[:depth], start[1]]
        else:
            path = path[: depth + 1]
        yield line, path
