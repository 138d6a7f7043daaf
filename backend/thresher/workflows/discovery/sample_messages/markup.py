"""XML as indented lines: used to build templates, never per element of a finished message."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

Lines = list[str]

INDENT = "  "
MEMBERS = "\x01"  # begins a line that stands for all members of a list; cannot occur in XML
_TAG = re.compile("<(/?)(?=[A-Za-z])")


def leaf(name: str, text: object, **attributes: str) -> Lines:
    """An element with text: one line."""
    return [f"<{name}{_attributes(attributes)}>{escape(str(text))}</{name}>"]


def empty(name: str, **attributes: str) -> Lines:
    """An element without content: one line."""
    return [f"<{name}{_attributes(attributes)}/>"]


def node(name: str, *children: Lines, **attributes: str) -> Lines:
    """An element with children, one level deeper."""
    inner = [INDENT + line for child in children for line in child]
    return [f"<{name}{_attributes(attributes)}>", *inner, f"</{name}>"]


def leaves(name: str, texts: list[str]) -> Lines:
    """One element per text, as lists of references are written from 18.2 on."""
    return [line for text in texts for line in leaf(name, text)]


def members(name: str) -> Lines:
    """The place in a document where the members called ``name`` are streamed."""
    return [MEMBERS + name]


def prefixed(lines: Lines, prefix: str) -> Lines:
    """The same lines with every element in the namespace of ``prefix`` (such as ``cns:``)."""
    return [_TAG.sub(rf"<\1{prefix}", line) for line in lines]


def _attributes(attributes: dict[str, str]) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
