"""Positions as text: any collation sorts them as the tuples they stand for, a parent before its children."""

from __future__ import annotations

DIGITS = 10  # per level, so 0 to 9,999,999,999


def encode_position(position: tuple[int, ...]) -> str:
    """Ten decimal digits per level, without separators.

    Raises:
        ValueError: a level is negative or has more than ten digits.
    """
    encoded = "".join(f"{level:010d}" for level in position)
    if len(encoded) != DIGITS * len(position) or not (encoded.isdigit() or not position):
        raise ValueError(f"{position} is no position: each level is a number from 0 to 9,999,999,999")
    return encoded


def decode_position(encoded: str) -> tuple[int, ...]:
    """The tuple that ``encode_position`` was given."""
    return tuple(int(encoded[start : start + DIGITS]) for start in range(0, len(encoded), DIGITS))
