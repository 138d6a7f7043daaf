"""Regions: the elements and attributes of a subtree as a tree, searched by the name of a property."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from thresher.llm.evidence import ROOT, Evidence, Leaf
from thresher.llm.structural import names

_NAMES_BEFORE = 2  # how many steps above a leaf may be part of a property's name


class Region:
    """An element or attribute with what stands below it. ``leaf`` is its own value, None where it has none."""

    def __init__(self, name: str, order: int) -> None:
        self.name = name
        self.order = order
        self.leaf: Leaf | None = None
        self.children: list[Region] = []

    @classmethod
    def of(cls, evidence: Evidence) -> Region:
        """The whole subtree. Elements without any value in or below them are not part of it."""
        root = cls(evidence.root_name, 0)
        known: dict[str, Region] = {}
        for leaf in evidence.leaves:
            region = root
            if leaf.path != ROOT:
                region = _grown(root, leaf.path, known)
            region.leaf = leaf
        return root

    @property
    def elements(self) -> Sequence[Region]:
        """The children that are elements."""
        return [child for child in self.children if child.leaf is None or not child.leaf.is_attribute]

    @property
    def sole_leaf(self) -> Leaf | None:
        """Its own value, or the only one below it."""
        region = self
        while region.leaf is None and len(region.children) == 1:
            region = region.children[0]
        return region.leaf

    @property
    def leaves(self) -> Iterator[Leaf]:
        """All values in it and below it, in document order."""
        if self.leaf is not None:
            yield self.leaf
        for child in self.children:
            yield from child.leaves

    def named(self, name: str) -> Sequence[Region]:
        """What a property of this name may mean below this region, best first; equally good ones in document order.

        Best is the name itself, then the name with its parents' before it, then the name's last words.
        """
        return [region for _, _, region in self._index.get(name, ())]

    def all_named(self, name: str) -> Sequence[Region]:
        """Those that a plural property of this name means: as good as the best one, none inside another."""
        candidates = self._index.get(name, ())
        best = candidates[0][0] if candidates else 0
        found = _outermost([region for rank, _, region in candidates if rank == best])
        return [part for region in found for part in region.listed]

    @property
    def listed(self) -> Sequence[Region]:
        """One region for each identifier where it is a list of references, else itself."""
        leaf = self.leaf
        if leaf is None or self.children or not names.is_reference_list(leaf.name) or " " not in leaf.value:
            return (self,)
        return [self._holding(leaf._replace(value=identifier)) for identifier in leaf.value.split(" ")]

    def _holding(self, leaf: Leaf) -> Region:
        region = Region(self.name, self.order)
        region.leaf = leaf
        return region

    @cached_property
    def repeated(self) -> Sequence[Sequence[Region]]:
        """Groups of siblings of one name, two and more, the largest first."""
        groups: list[list[Region]] = []
        waiting = [self]
        while waiting:
            siblings: dict[str, list[Region]] = {}
            for child in waiting.pop().elements:
                siblings.setdefault(child.name, []).append(child)
                waiting.append(child)
            groups.extend(group for group in siblings.values() if len(group) > 1)
        return sorted(groups, key=lambda group: (-len(group), group[0].order))

    @cached_property
    def _index(self) -> dict[str, list[tuple[int, int, Region]]]:
        """Key of a name -> (rank, depth, region), best first."""
        index: dict[str, list[tuple[int, int, Region]]] = {}
        waiting: list[tuple[Region, tuple[str, ...]]] = [(child, (self.name,)) for child in reversed(self.children)]
        while waiting:
            region, above = waiting.pop()
            for rank, key in _keys(region.name, above[-_NAMES_BEFORE:]):
                index.setdefault(key, []).append((rank, len(above), region))
            waiting.extend((child, (*above, region.name)) for child in reversed(region.children))
        for candidates in index.values():
            candidates.sort(key=lambda entry: entry[:2])
        return index


def _grown(root: Region, path: str, known: dict[str, Region]) -> Region:
    """The region at a path; those on the way that are missing are added."""
    region = known.get(path)
    if region is None:
        above, _, step = path.rpartition("/")
        parent = _grown(root, above, known) if above else root
        region = Region(step.removeprefix("@").partition("[")[0], len(known) + 1)
        known[path] = region
        parent.children.append(region)
    return region


def _keys(name: str, above: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(rank, key) under which a region is found; ``above`` are the names over it, the nearest last."""
    key = names.key(name)
    yield 0, key
    for parent in reversed(above):
        key = names.key(parent) + key
        yield 1, key
    for tail in names.tails(name):
        yield 2, tail
    for tail in names.tails(above[-1]):
        yield 3, tail + names.key(name)


def _outermost(regions: Sequence[Region]) -> Sequence[Region]:
    if len(regions) < 2:
        return regions
    inside = {id(child) for region in regions for child in _below(region)}
    return [region for region in regions if id(region) not in inside]


def _below(region: Region) -> Iterator[Region]:
    waiting = list(region.children)
    while waiting:
        child = waiting.pop()
        yield child
        waiting.extend(child.children)
