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

    ``sizes`` is a sample: every size up to 1,024 of them, then every second, every fourth and so on.
    """

    __slots__ = (
        "_budget",
        "_stride",
        "attributes",
        "children",
        "count",
        "depth",
        "largest",
        "local",
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
        self.attributes: set[str] = set()
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

    def child(self, local: str) -> PathNode:
        """The node for a child of this name, made where it is new."""
        found = self.children.get(local)
        if found is None:
            if len(self.children) >= MAX_CHILDREN or self._budget[0] <= 0:
                local = OTHERS
            found = self.children.get(local) or self._new_child(local)
        return found

    def _new_child(self, local: str) -> PathNode:
        self._budget[0] -= 1
        found = self.children[local] = PathNode(local, self.depth + 1, self)
        return found

    def note_attributes(self, attributes: Sequence[str]) -> None:
        """Notes the names of an element's attributes (names and values alternate)."""
        if attributes and len(self.attributes) < _MAX_ATTRIBUTES:
            self.attributes.update(split_name(name)[1] for name in attributes[: 2 * _MAX_ATTRIBUTES : 2])

    def note_size(self, size: int) -> None:
        """Notes an element that has ended."""
        self.smallest = min(self.smallest, size) if self.count else size
        self.largest = max(self.largest, size)
        self.total += size
        if self.count % self._stride == 0:
            self.sizes.append(size)
            if len(self.sizes) > _MAX_SIZES:
                del self.sizes[1::2]
                self._stride *= 2
        self.count += 1

    def walk(self) -> Iterator[PathNode]:
        """This node and all below it, in the order in which they first stood in the document."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children.values()))
