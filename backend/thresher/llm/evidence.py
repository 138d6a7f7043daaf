"""Evidence: the leaves of a subtree, each with its path, and the place that a path named by a model means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache, partial
from types import MappingProxyType
from typing import NamedTuple

from lxml import etree

ROOT = "."
"""The path of the root itself."""

Shells = Mapping[str, Mapping[str, int]]
"""Seen path of a shell element -> local name -> how many earlier siblings of that name are not in this piece."""

NO_SHELLS: Shells = MappingProxyType({})

_Place = tuple["etree._Element", str, str, str]  # noqa: SLF001  # the name lxml gives its elements
"""An element with its local name, its seen path and its source path, both empty for the root."""

_Steps = Sequence[tuple[str, int | None]]
"""Names (with ``@`` where an attribute is meant) and indexes of a path; None where no index is written."""

_NAMESPACE = re.compile(r"\{[^{}]*\}")
_STEP = re.compile(r"(@?)(?:[^\s/@:\[\]]+:)?([^\s/@:\[\]]+)(?:\[([0-9]{1,9})\])?")


class Leaf(NamedTuple):
    """A value of the subtree and where it stands.

    ``path`` is counted within the subtree as it was sent: ``Service[2]/PassengerRef``, ``Price/@Code``, ``.`` for
    the root's own text; a step carries ``[n]`` (from 1, by local name) where the parent has several children of that
    name. ``source_path`` is the same place counted in the source document; it differs only in pieces of a split
    subtree. ``name`` is the local name. ``value`` has runs of white space (Unicode's) as one blank, none at the
    ends, and is never empty.
    """

    path: str
    source_path: str
    name: str
    value: str
    is_attribute: bool


class Evidence:
    """What a subtree says: its leaves in document order, an element's attributes before its text and children.

    A leaf is every non-empty attribute, every element without child elements that has text, and every element of
    mixed content with its whole string-value, beside the leaves inside it. Comments and processing instructions
    say nothing.
    """

    def __init__(self, root_name: str, leaves: Sequence[Leaf]) -> None:
        self.root_name = root_name
        self._leaves = leaves

    @property
    def leaves(self) -> Sequence[Leaf]:
        """All that it says."""
        return self._leaves

    @property
    def is_empty(self) -> bool:
        """Whether the subtree says nothing."""
        return not self.leaves

    @classmethod
    def of(cls, root: etree._Element, shells: Shells = NO_SHELLS) -> Evidence:
        """Reads a subtree. Children of an element named in ``shells`` always carry an index in both paths."""
        return cls(_local_name(root.tag), _read(root, shells))

    def at(self, path: str) -> Sequence[Leaf]:
        """The leaves that a path means, in document order; empty where it means none. Never raises.

        The exact path first. Else as models write paths: blanks around it, ``/``, ``./`` or ``//`` before it, the
        root's name as its first step, prefixes and ``{uri}``, ``/text()`` after it, ``[1]`` on an only child, no
        ``[n]`` where there are several (all of them are meant). ``//`` means descendants where no path from the root
        fits. An element that holds nothing but one text further down means that text.
        """
        return self._by_path.get(path) or self._forgiving(path)

    @cached_property
    def first_values(self) -> Mapping[str, str]:
        """The value of the first leaf at each exact path, of those paths that are the same in the source document."""
        first = {leaf.path: leaf for leaf in reversed(self.leaves)}
        return {path: leaf.value for path, leaf in first.items() if leaf.source_path == path}

    @cached_property
    def _by_path(self) -> Mapping[str, Sequence[Leaf]]:
        alone: dict[str, Sequence[Leaf]] = {leaf.path: (leaf,) for leaf in self.leaves}
        if len(alone) == len(self.leaves):
            return alone
        found: dict[str, list[Leaf]] = {}
        for leaf in self.leaves:
            found.setdefault(leaf.path, []).append(leaf)
        return found

    @cached_property
    def _by_names(self) -> Mapping[tuple[str, ...], Sequence[tuple[tuple[int, ...], Leaf]]]:
        """The names of the steps -> the leaves there, each with the steps' indexes (1 where none is written)."""
        found: dict[tuple[str, ...], list[tuple[tuple[int, ...], Leaf]]] = {}
        for leaf in self.leaves:
            names, indexes = _split(leaf.path)
            found.setdefault(names, []).append((indexes, leaf))
        return found

    def _forgiving(self, path: str) -> Sequence[Leaf]:
        steps = _parse(path)
        if not steps:
            return () if steps is None else self._matching(steps)
        start = path.lstrip()
        readings = [steps]
        if steps[0][0] == self.root_name and steps[0][1] in {None, 1}:
            absolute = start.startswith("/") and not start.startswith("//")
            readings.insert(0 if absolute else 1, steps[1:])
        found = next(filter(None, map(self._matching, readings)), ())
        if not found and start.startswith("//"):
            found = self._below(steps)
        return found or next(filter(None, map(self._only_text_within, readings)), ())

    def _matching(self, steps: _Steps) -> Sequence[Leaf]:
        candidates = self._by_names.get(tuple(name for name, _ in steps), ())
        return [leaf for indexes, leaf in candidates if _agree(steps, indexes)]

    def _only_text_within(self, steps: _Steps) -> Sequence[Leaf]:
        """The one text inside an element without text of its own: XPath's string-value of it is that text."""
        count, names = len(steps), tuple(name for name, _ in steps)
        texts = [
            leaf
            for where, candidates in self._by_names.items()
            if len(where) > count and where[:count] == names
            for indexes, leaf in candidates
            if not leaf.is_attribute and _agree(steps, indexes[:count])
        ]
        return texts if len(texts) == 1 else ()

    def _below(self, steps: _Steps) -> Sequence[Leaf]:
        """Leaves whose last steps are these."""
        count, names = len(steps), tuple(name for name, _ in steps)
        meant = {
            id(leaf)
            for where, candidates in self._by_names.items()
            if where[-count:] == names
            for indexes, leaf in candidates
            if _agree(steps, indexes[-count:])
        }
        return [leaf for leaf in self.leaves if id(leaf) in meant]


@lru_cache(maxsize=4096)
def _local_name(tag: str) -> str:
    return tag[tag.rfind("}") + 1 :]


def _read(root: etree._Element, shells: Shells) -> list[Leaf]:
    """Walks the subtree once, with a stack of its own: depth is no matter.

    Where both paths of a place are the same they are one object, which is how that is told.
    """
    leaves: list[Leaf] = []
    stack: list[_Place] = [(root, _local_name(root.tag), "", "")]
    while stack:
        element, name, seen, source = stack.pop()
        for tag, text in element.items():
            if value := " ".join(text.split()):  # type: ignore[arg-type]  # always str from lxml
                attribute = _local_name(tag)
                place = f"{seen}/@{attribute}" if seen else f"@{attribute}"
                there = place if seen is source else f"{source}/@{attribute}" if source else f"@{attribute}"
                leaves.append(_leaf((place, there, attribute, value, True)))
        value = element.text or ""
        if len(element):
            value, places = _inside(element, value, (seen, source), shells)
            stack += places
        else:
            value = " ".join(value.split())
        if value:
            leaves.append(_leaf((seen or ROOT, source or ROOT, name, value, False)))
    return leaves


_leaf = partial(tuple.__new__, Leaf)  # a third of what its own constructor takes, which is Python


def _inside(element: etree._Element, text: str, paths: tuple[str, str], shells: Shells) -> tuple[str, list[_Place]]:
    """The string-value of an element with children, empty where it has no text of its own; the children, last first."""
    children, names = [], []
    is_mixed = bool(text) and not text.isspace()
    for node in element:
        if (tail := node.tail) and not tail.isspace():
            is_mixed = True
        if isinstance(tag := node.tag, str):
            children.append(node)
            names.append(_local_name(tag))
    children.reverse()
    value = ""
    if is_mixed:
        value = " ".join(etree.tostring(element, method="text", encoding="unicode", with_tail=False).split())
    seen, source = paths
    before = f"{seen}/" if seen else ""
    earlier = shells.get(seen or ROOT) if shells else None
    steps = _steps(names, earlier)
    steps.reverse()
    names.reverse()
    if seen is source and earlier is None:
        found = zip(children, names, steps, strict=True)
        return value, [(child, name, path := before + step, path) for child, name, (step, _) in found]
    source_before = f"{source}/" if source else ""
    found = zip(children, names, steps, strict=True)
    return value, [(child, name, before + step, source_before + there) for child, name, (step, there) in found]


def _steps(names: Sequence[str], earlier: Mapping[str, int] | None) -> list[tuple[str, str]]:
    """For each child its step as seen and its step in the source; ``earlier`` is None where the parent is no shell."""
    if earlier is None and len(set(names)) == len(names):
        return [(name, name) for name in names]
    totals: dict[str, int] = {}
    for name in names:
        totals[name] = totals.get(name, 0) + 1
    steps, ordinals = [], dict.fromkeys(totals, 0)
    for name in names:
        if earlier is None and totals[name] == 1:
            steps.append((name, name))
        else:
            ordinals[name] = ordinal = ordinals[name] + 1
            skipped = earlier.get(name, 0) if earlier else 0
            step = f"{name}[{ordinal}]"
            steps.append((step, f"{name}[{ordinal + skipped}]" if skipped else step))
    return steps


def _split(path: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and indexes of a leaf's path."""
    steps = _parse(path) or ()
    return tuple(name for name, _ in steps), tuple(index or 1 for _, index in steps)


def _parse(path: str) -> _Steps | None:
    """The steps of a path as a model may write it; None where it is no path."""
    steps = [part.strip() for part in _NAMESPACE.sub("", path).split("/")]
    if steps[-1] == "text()":
        steps.pop()
    parsed = []
    for step in steps:
        if step in {"", ROOT}:
            continue
        match = _STEP.fullmatch(step)
        if match is None:
            return None
        mark, name, index = match.groups()
        parsed.append((mark + name, int(index) if index else None))
    return parsed if parsed or ROOT in steps else None


def _agree(steps: _Steps, indexes: Sequence[int]) -> bool:
    return all(wanted in {None, index} for (_, wanted), index in zip(steps, indexes, strict=True))
