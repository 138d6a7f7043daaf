"""Names as the parser gives them: namespace and local name in one string."""

from __future__ import annotations

# A form feed can stand in no XML document, so in no namespace either.
SEPARATOR = "\f"


def split_name(name: str) -> tuple[str, str]:
    """The namespace (empty for none) and the local name of a parser's name."""
    uri, _, local = name.rpartition(SEPARATOR)
    return uri, local
