"""Proves values: each is looked up at its path in the subtree it was read from.

Nothing is recomputed: a value is proved by standing at its path as it was written, white space aside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from thresher.engine.work import JsonValue
from thresher.llm.evidence import Evidence, Leaf

_INSIDE_NUMBERS = ".,:/-"


class Grounded(NamedTuple):
    """Whether a value is proved; ``path`` is then where it stands in the source, else the path that was named."""

    grounded: bool
    path: str


@dataclass(frozen=True, slots=True)
class GroundedValue:
    """A scalar of a record: ``pointer`` is its JSON pointer, ``value`` its written form, ``path`` what proves it."""

    pointer: str
    value: str
    path: str
    grounded: bool


@dataclass(frozen=True, slots=True)
class GroundedRecord:
    """A record, as it was answered, with the proof of each of its scalar values in the record's order."""

    record: JsonValue
    values: Sequence[GroundedValue]


def ground(value: JsonValue, path: str, evidence: Evidence) -> Grounded:
    """Looks a value up at a path, after pseudonyms were restored in both.

    It is proved where the text or attribute there equals it, or, in prose of several words, contains it between
    word boundaries. A value that stands elsewhere only is not proved by a wrong path.
    """
    leaves = evidence.at(path)
    for leaf in leaves:
        if leaf.value == value:  # most values are written as they stand
            return Grounded(True, leaf.source_path)  # noqa: FBT003  # a keyword costs 0.2 us
    wanted = " ".join(written(value).split())
    if wanted:
        for leaf in leaves:
            if leaf.value == wanted or _contains(leaf, wanted):
                return Grounded(grounded=True, path=leaf.source_path)
    return Grounded(grounded=False, path=path)


def ground_record(record: JsonValue, proofs: Mapping[str, str], evidence: Evidence) -> GroundedRecord:
    """Proves each scalar of a record by the path that ``proofs`` names for its JSON pointer.

    A scalar without a proof is ungrounded; nulls and empty texts claim nothing and need none.
    """
    values = []
    for pointer, scalar in scalars(record):
        found = ground(scalar, proofs.get(pointer, proofs.get(f"#{pointer}", "")), evidence)
        values.append(GroundedValue(pointer, written(scalar), found.path, found.grounded))
    return GroundedRecord(record, values)


def scalars(record: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    """Streams (JSON pointer, value) of everything in a record that claims something, in its order."""
    waiting: list[tuple[str, JsonValue]] = [("", record)]
    while waiting:
        pointer, part = waiting.pop()
        if isinstance(part, Mapping):
            inner = [(f"{pointer}/{_escaped(name)}", entry) for name, entry in part.items()]
            waiting.extend(reversed(inner))
        elif isinstance(part, Sequence) and not isinstance(part, str):
            waiting.extend(reversed([(f"{pointer}/{index}", entry) for index, entry in enumerate(part)]))
        elif part is not None and part != "":
            yield pointer, part


class WrittenFloat(float):
    """A JSON number with a point or an exponent that remembers how it was written: 10.50 stays "10.50"."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Reads a number; ``text`` as JSON writes numbers."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def read_as_written(text: str) -> JsonValue:
    """Reads JSON so that ``written`` gives every number back as the model wrote it.

    Raises:
        ValueError: the text is no JSON, or holds NaN or Infinity, which JSON does not know.
    """
    try:
        value: JsonValue = json.loads(text, parse_float=WrittenFloat, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("the answer is nested too deep") from error
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def written(value: JsonValue) -> str:
    """A scalar as it was written: ``true``, ``12``, ``10.50``; a text is itself."""
    if isinstance(value, str):
        return value
    return value.text if isinstance(value, WrittenFloat) else json.dumps(value)


def _contains(leaf: Leaf, wanted: str) -> bool:
    """Whether prose contains the value: neither end of it may lie inside a word or a number of the prose."""
    text = leaf.value
    if " " not in text:
        return False
    start = text.find(wanted)
    while start >= 0:
        if _is_bounded(text, start, start + len(wanted)):
            return True
        start = text.find(wanted, start + 1)
    return False


def _is_bounded(text: str, start: int, end: int) -> bool:
    return not (_joins(text, start) or _joins(text, end))


def _joins(text: str, place: int) -> bool:
    """Whether the characters beside a place belong to one word or one number (10.50, 2026-01-02, 12:30, -3)."""
    before, after = text[place - 1 : place], text[place : place + 1]
    if _is_of_word(before) and _is_of_word(after):
        return True
    if before.isdigit() and after and after in _INSIDE_NUMBERS:
        return text[place + 1 : place + 2].isdigit()
    if after.isdigit() and before and before in _INSIDE_NUMBERS:
        beyond = text[max(place - 2, 0) : place - 1]
        return beyond.isdigit() or (before == "-" and not beyond.isalnum())
    return False


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
