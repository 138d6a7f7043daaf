"""The choice of paths where the user names none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from thresher.workflows.discovery.subtrees.detection import Detection
from thresher.workflows.discovery.subtrees.path_tree import OTHERS, PathNode
from thresher.workflows.discovery.subtrees.paths import MAX_PATH_CHARACTERS, NDC_PREFIX

MAX_CHOSEN = 64
_LISTS = "DataLists"
# Members of NDC messages that are worth a subtree of their own even where there is only one of them.
_NDC_MEMBERS = frozenset({"OrderItem", "Offer", "OfferItem", "SelectedOffer", "ALaCarteOfferItem"})
_MIN_COVERAGE = 0.5  # of the document's bytes, by repeated elements, to prefer them
_DOMINANT = 0.8  # of its parent's bytes: the parent is only a wrapper
_WRAPPED = 0.75  # of its parent's bytes: every parent is only a wrapper
_THIN_BYTES = 120  # a leaf of this size says too little on its own
_TINY_BYTES = 48


@dataclass(frozen=True, slots=True)
class _Cover:
    """A set of paths, none within another, and how well they cover: bytes weighted by fitness."""

    value: float
    nodes: tuple[PathNode, ...]


def choose(root: PathNode, detection: Detection, max_subtree_bytes: int, *, complete: bool) -> Sequence[str]:
    """The paths to take, at most 64, those that cover most bytes first.

    Every set of repeated elements is weighed by the bytes it covers: whole where a prompt can hold the median
    element, less where it is larger or tiny. The best set without nesting wins. ``complete`` says whether the
    whole document was seen; if not, NDC's lists are named by ``*`` so that those still to come are taken too.
    """
    if detection.is_ndc:
        return _for_ndc(root, max_subtree_bytes, complete=complete)[:MAX_CHOSEN] or [root.path]
    chosen = _repeated(root, max_subtree_bytes)
    if sum(node.total for node in chosen) >= _MIN_COVERAGE * root.total:
        return _texts(chosen)
    return _texts(_sections(root, max_subtree_bytes))


def _for_ndc(root: PathNode, max_subtree_bytes: int, *, complete: bool) -> list[str]:
    lists = next((node for node in root.walk() if node.local == _LISTS), None)
    rest = [node for child in _message_parts(root) for node in _ndc_members(child, max_subtree_bytes)]
    if not complete:
        return [f"{_LISTS}/*/*", *_generic_members(rest)]
    members = [member for each in (lists.children.values() if lists else ()) for member in each.children.values()]
    return _texts([*members, *rest]) or _texts(_repeated(root, max_subtree_bytes))


def _message_parts(root: PathNode) -> Iterable[PathNode]:
    """The outermost paths that hold no lists."""
    for child in root.children.values():
        if child.local == _LISTS:
            continue
        if any(node.local == _LISTS for node in child.walk()):
            yield from _message_parts(child)
        else:
            yield child


def _ndc_members(part: PathNode, max_subtree_bytes: int) -> list[PathNode]:
    """The repeated elements of a part; single offers and order items count as repeated."""
    chosen = list(_best(part, max_subtree_bytes, _NDC_MEMBERS).nodes)
    return [node for node in chosen if not _is_thin(node)]


def _generic_members(seen: Iterable[PathNode]) -> list[str]:
    expected = ["OffersGroup/*/Offer", "Order/OrderItem", "OrderItems/OrderItem", "PricedOffer/OfferItem"]
    names = {text.rpartition("/")[2] for text in expected}
    return expected + [node.path for node in seen if node.local.removeprefix(NDC_PREFIX) not in names]


def _repeated(root: PathNode, max_subtree_bytes: int) -> list[PathNode]:
    solid = [node for node in _best(root, max_subtree_bytes, frozenset()).nodes if not _is_thin(node)]
    return solid or list(_best(root, max_subtree_bytes, frozenset()).nodes)


def _best(root: PathNode, max_subtree_bytes: int, members: frozenset[str]) -> _Cover:
    """The best cover of a path: itself, or the best covers of its children; from the leaves up."""
    covers: dict[int, _Cover] = {}
    for node in reversed(list(root.walk())):
        below = [covers.pop(id(child)) for child in node.children.values()]
        inner = _Cover(sum(cover.value for cover in below), tuple(found for cover in below for found in cover.nodes))
        is_candidate = node.depth > 1 and node.local != OTHERS and (node.count > 1 or node.local in members)
        value = node.total * _fitness(node, max_subtree_bytes) if is_candidate else 0.0
        covers[id(node)] = _Cover(value, (_unwrapped(node),)) if value > inner.value else inner
    return covers[id(root)]


def _unwrapped(node: PathNode) -> PathNode:
    """The content of elements that hold just one element each and say nothing themselves."""
    while len(node.children) == 1 and not node.attributes:
        (child,) = node.children.values()
        if child.count != node.count or not child.children or child.total < _WRAPPED * node.total:
            return node
        node = child
    return node


def _fitness(node: PathNode, max_subtree_bytes: int) -> float:
    """How well elements of this size fill a prompt: 1 for most."""
    if node.median > max_subtree_bytes:
        return 0.4
    if _is_thin(node):
        return 0.1
    return 0.5 if node.median < _TINY_BYTES else 1.0


def _is_thin(node: PathNode) -> bool:
    """A small leaf: a value, not a record."""
    return not node.children and len(node.attributes) < 2 and node.median < _THIN_BYTES


def _sections(root: PathNode, max_subtree_bytes: int) -> list[PathNode]:
    """Without repeats: the innermost wrapper's content, whole if a prompt can hold it, else its children."""
    node = root
    while (heavy := _dominant_child(node)) is not None:
        node = heavy
    if node.median <= max_subtree_bytes or not node.children:
        return [node]
    return [child for child in node.children.values() if child.local != OTHERS]


def _dominant_child(node: PathNode) -> PathNode | None:
    for child in node.children.values():
        if child.count == node.count == 1 and child.children and child.total >= _DOMINANT * node.total:
            return child
    return None


def _texts(nodes: Iterable[PathNode]) -> list[str]:
    paths = [node.path for node in sorted(nodes, key=lambda node: -node.total)[:MAX_CHOSEN]]
    return [path for path in paths if len(path) <= MAX_PATH_CHARACTERS // MAX_CHOSEN] or paths[:1]
