"""Sizes as people write them."""

from __future__ import annotations

import re

from thresher.core.errors import BadConfiguration

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """The bytes of a size such as ``200KB``, ``1.5 GB`` or ``64MiB``: KB is 1,000 bytes, KiB 1,024, none is bytes.

    Raises:
        BadConfiguration: the text is no size, or less than one byte.
    """
    match = _SIZE.fullmatch(text)
    factor = UNITS.get(match[2].upper()) if match else None
    size = round(float(match[1]) * factor) if match and factor else 0
    if size < 1:
        raise BadConfiguration(f"{text!r} is no size: write a number with B, KB, MB or GB, such as 200KB or 1.5GB.")
    return size
