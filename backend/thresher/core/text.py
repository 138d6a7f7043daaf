"""Text that can be kept: what no database, no file and no answer in UTF-8 takes is refused where it comes in."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator

T = TypeVar("T")

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def require_storable(value: T) -> T:
    """The value as it is: a text, or lists and mappings of texts, as JSON has them.

    Raises:
        ValueError: a text within it has NUL, or half of a surrogate pair, which JSON and YAML can write as escapes.
    """
    if isinstance(value, str):
        if found := _UNSTORABLE.search(value):
            raise ValueError(f"character {found.start() + 1} cannot be stored: U+{ord(found[0]):04X} is no text")
    elif isinstance(value, dict):
        for name, part in value.items():
            require_storable(name)
            require_storable(part)
    elif isinstance(value, list):
        for part in value:
            require_storable(part)
    return value


StorableText = Annotated[str, AfterValidator(require_storable)]
