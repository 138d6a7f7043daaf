"""The grammar of subtree paths: a small language of our own, never evaluated as XPath.

path      = ["/" | "//"] step {("/" | "//") step}
step      = ("*" | name) ["[" number "]"] {"[@" name "='" value "']"}
name      = [prefix ":" | "{" uri "}"] local
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from thresher.core.errors import BadConfiguration

MAX_PATHS = 256
MAX_STEPS = 1_024  # of one path
MAX_ALL_STEPS = 4_096
MAX_PATH_CHARACTERS = 65_536
NDC_PREFIX = "IATA_"

# Whatever XML takes for a name and means nothing here; the document's names have been checked by its parser.
_NAME = r"""(?![\d.\-])[^\s/\[\]@{}:*='"|()<>&,;!?#$%^+\\]+"""
_STEP = re.compile(rf"(?:\{{(?P<uri>[^{{}}]*)\}}|{_NAME}:)?(?P<local>\*|{_NAME})")
_POSITION = re.compile(r"\[\s*([0-9]{1,10})\s*\]")
_CONDITION = re.compile(
    rf"""\[\s*@\s*(?:\{{(?P<uri>[^{{}}]*)\}}|{_NAME}:)?(?P<local>{_NAME})\s*=\s*(?P<quote>['"])(?P<value>.*?)(?P=quote)\s*\]"""
)
_BARE_SLASHES = re.compile(r"/{1,2}")


@dataclass(frozen=True, slots=True)
class Condition:
    """``[@name='value']``; ``uri`` is None where any namespace will do."""

    local: str
    value: str
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``local`` is ``*`` for any name; ``uri`` None for any namespace, empty for none.

    ``position`` counts elements of the same local name (any name for ``*``) under one parent, from 1.
    """

    local: str
    uri: str | None = None
    anywhere: bool = False
    position: int | None = None
    conditions: tuple[Condition, ...] = ()

    def accepts_name(self, uri: str, local: str) -> bool:
        """Whether an element's name fits; ``IATA_`` before a name counts for nothing."""
        if self.uri is not None and self.uri != uri:
            return False
        return self.local == "*" or self.local.removeprefix(NDC_PREFIX) == local.removeprefix(NDC_PREFIX)


@dataclass(frozen=True, slots=True)
class SubtreePath:
    """A path as it was written, and its steps from the outside in."""

    text: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return self.text


def parse_paths(texts: Sequence[str]) -> tuple[SubtreePath, ...]:
    """Reads paths, dropping those given twice.

    Raises:
        BadConfiguration: a path does not follow the grammar; the message says where.
    """
    if len(texts) > MAX_PATHS:
        raise BadConfiguration(f"{len(texts)} paths were given; at most {MAX_PATHS} can be followed at once.")
    paths = tuple(dict.fromkeys(parse_path(text) for text in texts))
    if sum(len(path.steps) for path in paths) > MAX_ALL_STEPS:
        raise BadConfiguration(f"The paths have more than {MAX_ALL_STEPS:,} steps in all. Give fewer or shorter ones.")
    return paths


def parse_path(text: str) -> SubtreePath:
    """Reads one path.

    Raises:
        BadConfiguration: it does not follow the grammar; the message says where.
    """
    if not text.strip():
        raise BadConfiguration("A path is empty. Write one such as DataLists/PaxList/Pax.")
    if len(text) > MAX_PATH_CHARACTERS:
        raise BadConfiguration(f"A path has {len(text):,} characters; at most {MAX_PATH_CHARACTERS:,} are read.")
    return SubtreePath(text.strip(), tuple(_Reader(text.strip()).steps()))


class _Reader:
    """Reads one path from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def steps(self) -> list[Step]:
        slashes = self._take(_BARE_SLASHES)
        steps = [self._step(anywhere=slashes != "/")]
        while self.at < len(self.text):
            if not (slashes := self._take(_BARE_SLASHES)):
                raise self._error("expected '/' or '['")
            steps.append(self._step(anywhere=slashes == "//"))
            if len(steps) > MAX_STEPS:
                raise self._error(f"more than {MAX_STEPS} steps")
        return steps

    def _step(self, *, anywhere: bool) -> Step:
        found = _STEP.match(self.text, self.at)
        if found is None:
            raise self._error(_missing_name(self.text[self.at : self.at + 1]))
        self.at = found.end()
        position = self._position()
        return Step(found["local"], found["uri"], anywhere, position, tuple(self._conditions()))

    def _position(self) -> int | None:
        found = _POSITION.match(self.text, self.at)
        if found is None:
            return None
        if int(found[1]) < 1:
            raise self._error("positions count from 1")
        self.at = found.end()
        return int(found[1])

    def _conditions(self) -> list[Condition]:
        conditions = []
        while self.text[self.at : self.at + 1] == "[":
            found = _CONDITION.match(self.text, self.at)
            if found is None:
                raise self._error("expected [n] (first, and once) or [@name='value']")
            conditions.append(Condition(found["local"], found["value"], found["uri"]))
            self.at = found.end()
        return conditions

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found[0] if found else ""

    def _error(self, what: str) -> BadConfiguration:
        return BadConfiguration(
            f"The path {self.text!r} cannot be read at character {self.at + 1}: {what}. "
            "Paths are made of names, *, /, //, [n] and [@name='value']; see docs/reference/paths.md."
        )


def _missing_name(character: str) -> str:
    if not character:
        return "expected a name, but the path ends"
    if character == "@":
        return "a path names elements; an attribute can only stand in [@name='value']"
    return f"expected a name or *, not {character!r}"
