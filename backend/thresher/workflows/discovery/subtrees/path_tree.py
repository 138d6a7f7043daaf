"""The tree of a document's paths: what stands where, how often, how large."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from thresher.workflows.discovery.subtrees.names import split_name

MAX_CHILDREN = 1_000  # different names under one path
MAX_NODES = 5_000
_MAX_SIZES = 1_024
_MAX_ATTRIBUTES = 64
OTHERS = "*"
"""Stands for the names beyond ``MAX_CHILDREN``."""


class PathNode:
    """All elements at one path of local names. Sizes are bytes of UTF-8.

    ``sizes`` is a sample: every size up to 1,024 of them, then every second, every fourth and so on. Sizes are put
    into ``noted`` one by one and taken up by ``settle``: counts, sizes and totals are those of the last call.
    """

    __slots__ = (
        "_budget",
        "_stride",
        "_written_attributes",
        "attributes",
        "by_name",
        "children",
        "count",
        "depth",
        "largest",
        "local",
        "noted",
        "parent",
        "sizes",
        "smallest",
        "total",
    )

    def __init__(self, local: str, depth: int, parent: PathNode | None = None) -> None:
        self.local = local
        self.depth = depth
        self.parent = parent
        self.children: dict[str, PathNode] = {}
        self.by_name: dict[str, PathNode] = {}  # children by the parser's names, those met first
        self.attributes: set[str] = set()
        self._written_attributes: set[str] = set()
        self.noted: list[int] = []
        self.sizes: list[int] = []
        self.count = 0
        self.total = 0
        self.smallest = 0
        self.largest = 0
        self._stride = 1
        self._budget: list[int] = parent._budget if parent else [MAX_NODES]  # noqa: SLF001 - one budget for the whole tree

    @property
    def path(self) -> str:
        """The path from the root, by local names: ``/OrderViewRS/Response``."""
        names: list[str] = []
        node = self
        while node.parent is not None:
            names.append(node.local)
            node = node.parent
        return "".join(f"/{name}" for name in reversed(names))

    @property
    def median(self) -> float:
        """The median size, of the sample."""
        return statistics.median(self.sizes) if self.sizes else 0.0

    def child(self, name: str) -> PathNode:
        """The node for a child of this (parser's) name, made where it is new."""
        local = split_name(name)[1]
        found = self.children.get(local)
        if found is None:
            if len(self.children) >= MAX_CHILDREN or self._budget[0] <= 0:
                local = OTHERS
            found = self.children.get(local) or self._new_child(local)
        if len(self.by_name) < MAX_CHILDREN:
            self.by_name[name] = found
        return found

    def _new_child(self, local: str) -> PathNode:
        self._budget[0] -= 1
        found = self.children[local] = PathNode(local, self.depth + 1, self)
        return found

    def note_attributes(self, attributes: Sequence[str]) -> None:
        """Notes the names of an element's attributes (names and values alternate)."""
        written = self._written_attributes
        if len(written) < _MAX_ATTRIBUTES and not written.issuperset(attributes[::2]):
            new = [name for name in attributes[::2] if name not in written][: _MAX_ATTRIBUTES - len(written)]
            written.update(new)
            self.attributes.update(split_name(name)[1] for name in new)

    def settle(self) -> None:
        """Takes up the sizes of the elements that have ended since the last call."""
        noted = self.noted
        if not noted:
            return
        self.smallest = min(self.smallest, *noted) if self.count else min(noted)
        self.largest = max(self.largest, *noted)
        self.total += sum(noted)
        self.sizes += noted[-self.count % self._stride :: self._stride]
        self.count += len(noted)
        while len(self.sizes) > _MAX_SIZES:
            del self.sizes[1::2]
            self._stride *= 2
        self.noted = []

    def walk(self) -> Iterator[PathNode]:
        """This node and all below it, in the order in which they first stood in the document."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children.values()))
