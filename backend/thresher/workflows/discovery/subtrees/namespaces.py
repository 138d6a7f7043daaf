"""Namespace declarations in scope, and how they travel with a subtree."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

Scope = Mapping[str, str]  # prefix (empty for the default) -> namespace; never the empty namespace
EMPTY_SCOPE: Scope = {}


def widen(scope: Scope, declared: Mapping[str, str]) -> Scope:
    """The scope within an element that declares namespaces; an empty one undeclares."""
    return {prefix: uri for prefix, uri in {**scope, **declared}.items() if uri}


def declarations(scope: Scope) -> Mapping[bytes, bytes]:
    """What to add to a start tag for each prefix in scope, keyed by ``b"prefix:"`` (the default by nothing)."""
    return {
        (f"{prefix}:" if prefix else "").encode(): _attribute(prefix, uri)
        for prefix, uri in sorted(scope.items())
        if prefix != "xml"
    }


def needed(declared: Mapping[bytes, bytes], xml: bytes) -> bytes:
    """The declarations that a subtree can need: the default one, and prefixes that occur anywhere in its text."""
    if not declared:
        return b""
    return b"".join([attribute for prefix, attribute in declared.items() if prefix in xml])


def _attribute(prefix: str, uri: str) -> bytes:
    name = f"xmlns:{prefix}" if prefix else "xmlns"
    return f" {name}={quoteattr(uri, _BLANKS)}".encode()


_BLANKS = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
