"""Shapes of subtrees: what is found out by walking one of them holds for all that differ in their values only.

The shape of a subtree is its text without its values: what stands between two tags, and in quotes after ``=``. Lists in
messages repeat a few shapes thousands of times. A subtree of a known shape is not parsed and not walked: its text is
cut into markup and values, which takes a third of the time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import NamedTuple

from lxml import etree

from thresher.llm.evidence import Evidence, Leaf
from thresher.llm.masking import Pseudonyms, hidden_in, spots
from thresher.llm.personal_fields import Kind
from thresher.llm.personal_text import MIN_CHARACTERS
from thresher.llm.providers.structural import parse_subtree

LONGEST = 32 * 1024  # characters of a subtree; longer ones hardly ever have the shape of another
MOST_SHAPES = 512
MOST_CHARACTERS = 2 * 1024 * 1024  # of markup of all shapes that are known
_MOST_SEEN = 8192  # shapes seen once

_VALUE = re.compile(r'(>\s*+[^<]++|="[^"<\n\t]++(?="))')
"""``>`` with the text after it, unless that is blank; ``="`` with the value of an attribute."""

_UNUSUAL = ("&", "<!", "<?", "\r")
"""Where a text is not what it says (references, CDATA), or is none (comments, instructions)."""

_MARK = "urn:thresher:value:"  # a value may be the name of a namespace
_MARKER = re.compile(f"{_MARK}([0-9]+)")

_leaf = partial(tuple.__new__, Leaf)  # a third of what its own constructor takes, which is Python


class _Slot(NamedTuple):
    """Where a leaf's value stands: the number of the value, and what else the leaf is."""

    number: int
    path: str
    name: str
    is_attribute: bool


class _Spot(NamedTuple):
    """A value to be looked at for personal data: its number, and what its names say of it."""

    number: int
    kind: Kind | None
    name: str


class _Shape(NamedTuple):
    """``offsets``: how many characters of markup stand before each value where the text is cut.

    ``numbers``: path of each leaf -> number of its value; empty where several leaves have the same path.
    """

    root_name: str
    offsets: Sequence[int]
    slots: Sequence[_Slot]
    spots: Sequence[_Spot]
    numbers: Mapping[str, int]


class _ShapedEvidence(Evidence):
    """That of a subtree of a known shape: its leaves are made when somebody asks for them, which few do."""

    def __init__(self, shape: _Shape, values: Sequence[str]) -> None:
        """``values``: as those of leaves are, by their numbers; empty where there is none."""
        super().__init__(shape.root_name, ())
        self._shape = shape
        self._values = values

    @cached_property
    def leaves(self) -> Sequence[Leaf]:
        values = self._values
        return [
            _leaf((path, path, name, value, is_attribute))
            for number, path, name, is_attribute in self._shape.slots
            if (value := values[number])
        ]

    @property
    def is_empty(self) -> bool:
        return not any(self._values[slot.number] for slot in self._shape.slots)

    @cached_property
    def first_values(self) -> Mapping[str, str]:
        values, numbers = self._values, self._shape.numbers
        if numbers and "" not in values:
            return {path: values[number] for path, number in numbers.items()}
        return super().first_values


class Reading:
    """A subtree of a known shape."""

    def __init__(self, shape: _Shape, xml: str, pieces: list[str]) -> None:
        self._shape = shape
        self._xml = xml
        self._pieces = pieces  # markup, value with what its markup ends with, markup, and so on
        self._values = [piece[start:] for piece, start in zip(pieces[1::2], shape.offsets, strict=True)]

    def evidence(self) -> Evidence:
        """What ``Evidence.of`` finds in it."""
        values = self._values if self._are_as_they_stand() else [" ".join(value.split()) for value in self._values]
        return _ShapedEvidence(self._shape, values)

    def _are_as_they_stand(self) -> bool:
        """Whether no value has white space to be put right (all of which but a blank is not printable)."""
        text = " ".join(self._values)
        return text.isprintable() and "  " not in text and text == text.strip()

    def masked(self) -> tuple[Pseudonyms, str]:
        """Its text with personal data replaced as ``Masker.mask`` does, and what stands for it."""
        pseudonyms = Pseudonyms(lambda: self._xml)
        values, pieces = self._values, list(self._pieces)
        for number, kind, name in self._shape.spots:
            value = values[number]
            if kind is None and (len(value) < MIN_CHARACTERS or value.isalpha()):  # most values: not worth a call
                continue
            masked = hidden_in(value, kind, name, pseudonyms)
            if masked is not value:
                piece = pieces[2 * number + 1]
                pieces[2 * number + 1] = piece[: len(piece) - len(value)] + masked
        return pseudonyms, "".join(pieces) if pseudonyms.count else self._xml


class Shapes:
    """The shapes that came more than once, in bounded memory. Safe from any thread.

    ``at_first_sight``: a shape is looked into when it is seen for the first time, which pays only where it comes again.
    """

    def __init__(self, *, at_first_sight: bool = False) -> None:
        self._at_first_sight = at_first_sight
        self._known: dict[str, _Shape | None] = {}  # by markup; None: has to be walked each time
        self._characters = 0
        self._seen: set[int] = set()

    def read(self, xml: str) -> Reading | None:
        """A well-formed subtree by its shape; None where it has to be parsed."""
        if len(xml) > LONGEST or any(unusual in xml for unusual in _UNUSUAL):
            return None
        pieces = _VALUE.split(xml)
        markup = "\0".join(pieces[::2])  # which no XML holds
        try:
            shape = self._known[markup]
        except KeyError:
            shape = self._learn(markup, pieces)
        return None if shape is None else Reading(shape, xml, pieces)

    def _learn(self, markup: str, pieces: Sequence[str]) -> _Shape | None:
        if not self._at_first_sight:
            number = hash(markup)
            if number not in self._seen:
                if len(self._seen) >= _MOST_SEEN:
                    self._seen = set()
                self._seen.add(number)
                return None
        if len(self._known) >= MOST_SHAPES or self._characters + len(markup) > MOST_CHARACTERS:
            self._known, self._characters = {}, 0
        self._characters += len(markup)
        shape = self._known[markup] = _shape_of(pieces)
        return shape


def _shape_of(pieces: Sequence[str]) -> _Shape | None:
    """Walks the subtree with a number in place of each value; None where values cannot be told from markup by that."""
    if any(_MARK in piece for piece in pieces[::2]):
        return None
    offsets = [1 if piece[0] == ">" else 2 for piece in pieces[1::2]]
    marked = list(pieces)
    for number, offset in enumerate(offsets):
        marked[2 * number + 1] = f"{pieces[2 * number + 1][:offset]}{_MARK}{number}"
    try:
        root = parse_subtree("".join(marked))
    except etree.XMLSyntaxError:
        return None
    evidence, slots = Evidence.of(root), []
    for leaf in evidence.leaves:
        value = _number(leaf.value)
        if value is None:  # several values, or none that was found
            return None
        slots.append(_Slot(value, leaf.path, leaf.name, leaf.is_attribute))
    to_look_at = [(_number(spot.text), spot.kind, spot.name) for spot in spots(root)]
    found = [_Spot(number, kind, name) for number, kind, name in to_look_at if number is not None]
    silent = {_number(uri) for element in root.iter() for uri in element.nsmap.values()}
    numbers = {slot.number for slot in slots}
    if len(numbers) != len(slots) or {spot.number for spot in found} != numbers or len(found) != len(to_look_at):
        return None
    if set(range(len(offsets))) - numbers - silent:
        return None
    by_path = {slot.path: slot.number for slot in slots}
    return _Shape(evidence.root_name, offsets, slots, found, by_path if len(by_path) == len(slots) else {})


def _number(text: str) -> int | None:
    match = _MARKER.fullmatch(text)
    return int(match[1]) if match else None
