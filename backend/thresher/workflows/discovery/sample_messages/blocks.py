"""Blocks: the members of fifty units, rendered once and written again and again under other numbers.

A message of any size is a cycle of a few blocks. Every id, document number and address in a block holds the number
of its block, so no two members of a message are alike, and writing one costs a copy, not a rendering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from thresher.workflows.discovery.sample_messages.dice import Dice
from thresher.workflows.discovery.sample_messages.markup import Lines
from thresher.workflows.discovery.sample_messages.shapes import Shape
from thresher.workflows.discovery.sample_messages.travel import BLOCK

UNITS_PER_BLOCK = 50
VARIANTS = 8  # different blocks in a message


@dataclass(frozen=True, slots=True)
class MemberBlock:
    """The members of one list in a block: ``ends`` and ``counts`` say where the share of the first n units ends."""

    text: bytes
    ends: tuple[int, ...]
    counts: tuple[int, ...]

    def of_first(self, units: int) -> bytes:
        """The members that the first ``units`` units add, without the number of a block."""
        return self.text if units == UNITS_PER_BLOCK else self.text[: self.ends[units]]


@dataclass(frozen=True, slots=True)
class Block:
    """Fifty units of one variant; ``totals`` are the sums of what the first n units cost."""

    lists: Mapping[str, MemberBlock]
    totals: tuple[int, ...]

    def size(self, units: int) -> int:
        """The bytes that the first ``units`` units add to the message."""
        return sum(members.ends[units] for members in self.lists.values())


@dataclass(frozen=True, slots=True)
class BlockPress:
    """Renders the variants of a message; ``width`` is the number of digits of a block's number."""

    shape: Shape
    seed: int
    width: int

    def render(self, variant: int, depths: Mapping[str, int]) -> Block:
        """One variant; ``depths`` says how deep in the message each list's members stand."""
        units = list(self.shape.units(Dice(self.seed, variant + 1), UNITS_PER_BLOCK, self.width))
        lists = {
            name: _member_block([unit.members.get(name, []) for unit in units], depth) for name, depth in depths.items()
        }
        return Block(lists, tuple(accumulate((unit.total for unit in units), initial=0)))


def numbered(text: bytes, block: int, width: int) -> bytes:
    """The text of a block with the number of the block in its places."""
    return text.replace(BLOCK.encode() * width, b"%0*d" % (width, block))


def member_text(lines: Lines, depth: int) -> bytes:
    """One member as it stands in the message."""
    indent = "  " * depth
    return "".join(f"{indent}{line}\n" for line in lines).encode()


def _member_block(members_of_units: list[list[Lines]], depth: int) -> MemberBlock:
    texts = [b"".join(member_text(lines, depth) for lines in members) for members in members_of_units]
    return MemberBlock(
        text=b"".join(texts),
        ends=tuple(accumulate(map(len, texts), initial=0)),
        counts=tuple(accumulate(map(len, members_of_units), initial=0)),
    )
