"""Names of elements, attributes and properties, compared without case, separators and camel humps."""

from __future__ import annotations

import re
from functools import lru_cache

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_a-zA-Z0-9]+")
_REFERENCE = re.compile(r".*(?:[a-z0-9]Ref|RefI[Dd])|Ref|ref|RefI[Dd]|IDREF|idref")
_REFERENCES = re.compile(r".*(?:[a-z0-9]Refs|RefI[Dd]s)|Refs|refs|RefI[Dd]s|IDREFS|idrefs")


@lru_cache(maxsize=4096)
def words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case: ``TotalAmount``, ``total_amount`` and ``total-amount`` have the same."""
    return tuple(word.casefold() for word in _WORDS.findall(name))


@lru_cache(maxsize=4096)
def key(name: str) -> str:
    """What two names share that are the same but for their spelling."""
    return "".join(words(name))


@lru_cache(maxsize=4096)
def tails(name: str) -> tuple[str, ...]:
    """The keys of what is left of a name without its first words: ``OrderItemID`` has ``itemid`` and ``id``."""
    parts = words(name)
    return tuple("".join(parts[start:]) for start in range(1, len(parts)))


@lru_cache(maxsize=4096)
def singulars(name: str) -> tuple[str, ...]:
    """The keys under which one of many may stand: ``services`` and ``ServiceList`` have ``service``."""
    plural = key(name)
    found = []
    if plural.endswith("list") and len(plural) > len("list"):
        found.append(plural.removesuffix("list"))
    if plural.endswith("ies"):
        found.append(plural.removesuffix("ies") + "y")
    if plural.endswith("s") and not plural.endswith("ss"):
        found.append(plural.removesuffix("s"))
    if plural.endswith("es"):
        found.append(plural.removesuffix("es"))
    return tuple(entry for entry in found if entry)


@lru_cache(maxsize=4096)
def is_reference(name: str) -> bool:
    """Whether a leaf of this name points elsewhere (``PassengerRef``, ``PaxRefID``, ``refs``), by convention."""
    return bool(_REFERENCE.fullmatch(name)) or is_reference_list(name)


@lru_cache(maxsize=4096)
def is_reference_list(name: str) -> bool:
    """Whether a leaf of this name holds several references, with blanks between them."""
    return bool(_REFERENCES.fullmatch(name))
