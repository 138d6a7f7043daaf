"""Listings: every leaf of a subtree as a field, and those that point elsewhere as references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thresher.llm.evidence import ROOT, Evidence, Leaf
from thresher.llm.structural import names

Entry = tuple[str, str, str]
"""Name, value and path."""

_ENTRY = {"name", "value", "path"}


def is_entry(schema: Mapping[str, Any]) -> bool:
    """Whether a resolved schema is that of a field or reference: name, value and path."""
    return set(schema.get("properties", ())) >= _ENTRY


def fields(evidence: Evidence) -> Sequence[Entry]:
    """Every leaf. Its name has its parent's before it where leaves of other parents share it."""
    parents = _parents(evidence)
    ambiguous = _ambiguous(evidence, parents)
    return [
        (f"{parent}/{leaf.name}" if leaf.name in ambiguous and parent else leaf.name, leaf.value, leaf.path)
        for leaf, parent in zip(evidence.leaves, parents, strict=True)
    ]


def references(evidence: Evidence) -> Iterator[Entry]:
    """The leaves that point elsewhere by the conventions of their names, one entry for each identifier."""
    for leaf in evidence.leaves:
        if not names.is_reference(leaf.name):
            continue
        if names.is_reference_list(leaf.name):
            yield from ((leaf.name, identifier, leaf.path) for identifier in leaf.value.split(" "))
        else:
            yield leaf.name, leaf.value, leaf.path


def _parents(evidence: Evidence) -> Sequence[str]:
    """The name of each leaf's parent, empty for the root's own text."""
    root = evidence.root_name
    return [_parent(leaf, root) for leaf in evidence.leaves]


def _parent(leaf: Leaf, root: str) -> str:
    if "/" not in leaf.path:
        return "" if leaf.path == ROOT else root
    return leaf.path.rsplit("/", 2)[-2].partition("[")[0]


def _ambiguous(evidence: Evidence, parents: Sequence[str]) -> set[str]:
    first: dict[str, str] = {}
    return {
        leaf.name
        for leaf, parent in zip(evidence.leaves, parents, strict=True)
        if first.setdefault(leaf.name, parent) != parent
    }
