"""Seeded randomness that is the same on every machine and every Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice")

WORD = 0xFFFF_FFFF_FFFF_FFFF


class Dice:
    """Sebastiano Vigna's splitmix64, in 64-bit words.

    The standard library's generator keeps only ``random()`` the same from version to version; samples must be.
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        self._state = (seed ^ (stream * 0xD1B5_4A32_D192_ED03)) & WORD

    def below(self, bound: int) -> int:
        """A number from 0 to ``bound`` - 1."""
        self._state = (self._state + 0x9E37_79B9_7F4A_7C15) & WORD
        word = self._state
        word = ((word ^ (word >> 30)) * 0xBF58_476D_1CE4_E5B9) & WORD
        word = ((word ^ (word >> 27)) * 0x94D0_49BB_1331_11EB) & WORD
        return (word ^ (word >> 31)) % bound

    def between(self, lowest: int, highest: int) -> int:
        """A number from ``lowest`` to ``highest``, both included."""
        return lowest + self.below(highest - lowest + 1)

    def percent(self, share: int) -> bool:
        """True ``share`` times in a hundred."""
        return self.below(100) < share

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """One of the choices, each as likely as the other."""
        return choices[self.below(len(choices))]
