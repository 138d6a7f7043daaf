"""Samples: what is asked for, how large it becomes, and writing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, get_args

from thresher.core.errors import BadConfiguration
from thresher.workflows.discovery.sample_messages.blocks import (
    UNITS_PER_BLOCK,
    VARIANTS,
    Block,
    BlockPress,
    member_text,
    numbered,
)
from thresher.workflows.discovery.sample_messages.dice import Dice
from thresher.workflows.discovery.sample_messages.edist import EdistAirShopping, EdistOrderView
from thresher.workflows.discovery.sample_messages.layout import Layout, MemberPlace, lay_out
from thresher.workflows.discovery.sample_messages.shapes import FILLER, Shape
from thresher.workflows.discovery.sample_messages.travel import CURRENCIES, SERVICES
from thresher.workflows.discovery.sample_messages.unified import UnifiedAirShopping, UnifiedOrderView

MessageName = Literal["OrderViewRS", "AirShoppingRS"]
MessageVersion = Literal["17.2", "19.2", "21.3"]

LEAST_BYTES_PER_UNIT = 500  # for the number of digits of ids only


class Writable(Protocol):
    """What a sample is written to: a binary file, a pipe, a socket's file."""

    def write(self, data: bytes, /) -> object:
        """Takes all of ``data``."""


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """What a sample is to be; equal ones give the same bytes on every machine.

    Its length is either ``size_bytes`` (met within 2 % from 100 KB on; a message has at least one unit) or
    ``units``: the passengers of an order, the offers of a search.

    Raises:
        BadConfiguration: an unknown message or version, or not exactly one of the two lengths, 1 or more.
    """

    message: MessageName = "OrderViewRS"
    version: MessageVersion = "19.2"
    seed: int = 1
    size_bytes: int | None = None
    units: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("message", self.message, get_args(MessageName)),
            ("version", self.version, get_args(MessageVersion)),
        ):
            if value not in known:
                raise BadConfiguration(f"There are no samples of {name} {value!r}; there are {', '.join(known)}.")
        lengths = [length for length in (self.size_bytes, self.units) if length is not None]
        if len(lengths) != 1 or lengths[0] < 1:
            raise BadConfiguration("A sample needs either a size or a number of units, and it must be 1 or more.")


def write_sample(spec: SampleSpec, stream: Writable) -> int:
    """Writes a sample piece by piece, in constant memory, and returns its length in bytes.

    An error of the stream (a full disk, a closed pipe) passes through; what was written before stays.
    """
    written = 0
    for piece in _Sample(spec).pieces():
        stream.write(piece)
        written += len(piece)
    return written


def expected_counts(spec: SampleSpec) -> Mapping[str, int]:
    """How many members each list of a sample has, by the path of the members from the root (local names).

    ``{"/IATA_OrderViewRS/Response/DataLists/PaxList/Pax": 120, ...}``; nothing is written.
    """
    return _Sample(spec).counts()


@dataclass(frozen=True)
class _Sample:
    spec: SampleSpec
    _blocks: dict[int, Block] = field(default_factory=dict)

    def pieces(self) -> Iterator[bytes]:
        for part in self.layout.parts:
            if isinstance(part, bytes):
                yield part
            elif part.name == FILLER:
                yield from (self.service_definition(number) for number in range(self.definitions))
            else:
                yield from self.members(part)

    def members(self, place: MemberPlace) -> Iterator[bytes]:
        for number, units in self.shares(self.units):
            text = self.block(number).lists[place.name].of_first(units)
            yield numbered(text, number, self.width)

    def counts(self) -> Mapping[str, int]:
        counts = Counter(self.layout.fixed_counts)
        for place in self.layout.places:
            if place.name == FILLER:
                counts[place.path] = self.definitions
                continue
            shares = self.shares(self.units)
            counts[place.path] += sum(self.block(number).lists[place.name].counts[units] for number, units in shares)
        return dict(counts)

    @cached_property
    def shape(self) -> Shape:
        currency = Dice(self.spec.seed).pick(CURRENCIES)
        order = self.spec.message == "OrderViewRS"
        if self.spec.version == "17.2":
            return EdistOrderView(currency) if order else EdistAirShopping(currency)
        version = self.spec.version
        return UnifiedOrderView(version, currency) if order else UnifiedAirShopping(version, currency)

    @cached_property
    def width(self) -> int:
        most = self.spec.units or (self.spec.size_bytes or 0) // LEAST_BYTES_PER_UNIT
        return len(str(most // UNITS_PER_BLOCK))

    @cached_property
    def layout(self) -> Layout:
        """The document with its real total."""
        total = sum(self.block(number).totals[units] for number, units in self.shares(self.units))
        return lay_out(self.shape.document(total))

    @cached_property
    def units(self) -> int:
        """As many as fit; at least one."""
        if self.spec.units is not None:
            return self.spec.units
        room = self._room
        variants = self._variants_that_fit(room)
        cycle = sum(self.block(number).size(UNITS_PER_BLOCK) for number in range(variants))
        cycles, room = divmod(room, cycle) if variants == VARIANTS else (0, room)
        units = cycles * VARIANTS * UNITS_PER_BLOCK
        for number in range(VARIANTS):
            fitting = self._fitting(number, room)
            units += fitting
            room -= self.block(number).size(fitting)
            if fitting < UNITS_PER_BLOCK:
                break
        return max(units, 1)

    @cached_property
    def definitions(self) -> int:
        """The services of the catalogue, and as many more as fill the message up."""
        wanted = self.spec.size_bytes
        if wanted is None:
            return len(SERVICES)
        room = wanted - self.layout.fixed_size
        room -= sum(self.block(number).size(units) for number, units in self.shares(self.units))
        number = 0
        while number < len(SERVICES) or room >= len(self.service_definition(number)) // 2:
            room -= len(self.service_definition(number))
            number += 1
        return number

    def shares(self, units: int) -> Iterator[tuple[int, int]]:
        """Every block's number with how many of its units are in the message."""
        for number in range(-(-units // UNITS_PER_BLOCK)):
            yield number, min(UNITS_PER_BLOCK, units - number * UNITS_PER_BLOCK)

    def block(self, number: int) -> Block:
        variant = number % VARIANTS
        if variant not in self._blocks:
            self._blocks[variant] = BlockPress(self.shape, self.spec.seed, self.width).render(variant, self._depths)
        return self._blocks[variant]

    def service_definition(self, number: int) -> bytes:
        return member_text(self.shape.service_definition(number), self._depths[FILLER])

    @cached_property
    def _blank(self) -> Layout:
        """The document before its total is known."""
        return lay_out(self.shape.document(0))

    @cached_property
    def _depths(self) -> Mapping[str, int]:
        return {place.name: place.depth for place in self._blank.places}

    @property
    def _room(self) -> int:
        """The bytes that are left for units."""
        catalogue = sum(len(self.service_definition(number)) for number in range(len(SERVICES)))
        return (self.spec.size_bytes or 0) - self._blank.fixed_size - catalogue

    def _variants_that_fit(self, room: int) -> int:
        """How many variants to render: no more than the message needs, in sequence."""
        number = 0
        while number < VARIANTS and room > 0:
            room -= self.block(number).size(UNITS_PER_BLOCK)
            number += 1
        return number

    def _fitting(self, number: int, room: int) -> int:
        block = self.block(number)
        return sum(block.size(units) <= room for units in range(1, UNITS_PER_BLOCK + 1))
