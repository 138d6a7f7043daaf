"""A piece cut again: every leaf keeps its place in the source, and none is lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from thresher.llm.evidence import Evidence
from thresher.workflows.discovery.subtrees import Limits, split_further
from thresher.workflows.discovery.subtrees.pieces import PieceCutter

NAMES = st.sampled_from(["a", "b", "c"])
TEXTS = st.integers(0, 10**9).map(lambda number: f"value {number} " + "x" * (number % 40))
Tree = tuple[str, object]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.tuples(NAMES, TEXTS),
    lambda inner: st.tuples(NAMES, st.lists(inner, min_size=1, max_size=6)),
    max_leaves=40,
)


def written(tree: Tree) -> str:
    name, content = tree
    inner = "".join(map(written, content)) if isinstance(content, list) else str(content)
    return f"<{name}>{inner}</{name}>"


def leaves(xml: str, shells: dict[str, dict[str, int]] | None = None) -> list[tuple[str, str]]:
    """(place, value) with every step counted, so that places of pieces and of the whole can be compared."""
    return [(counted(leaf.source_path), leaf.value) for leaf in Evidence.of(etree.fromstring(xml), shells or {}).leaves]


def counted(path: str) -> str:
    return "/".join(step if step.endswith("]") or step == "." else f"{step}[1]" for step in path.split("/"))


@settings(max_examples=150, deadline=None)
@given(tree=TREES, first=st.integers(256, 700), second=st.integers(64, 300))
def test_two_cuts_one_after_the_other_lose_no_leaf_and_keep_every_place(tree: Tree, first: int, second: int) -> None:
    xml = written(("root", [tree, tree, tree]))
    cutter = PieceCutter(b"", Limits(max_subtree_bytes=first))
    found: list[tuple[str, str]] = []
    for piece in [*cutter.feed(xml.encode()), cutter.finish()]:
        for smaller in split_further(piece.xml.decode(), piece.shells, second):
            found.extend(leaves(smaller.xml, {path: dict(missing) for path, missing in smaller.shells.items()}))
    assert Counter(found) == Counter(leaves(xml))


def test_a_piece_that_fits_stays_one_piece_with_the_shells_it_had() -> None:
    shells = {".": {"a": 3}}
    (piece,) = split_further("<r><a>1</a></r>", shells, 1000)
    assert (piece.xml, piece.shells) == ("<r><a>1</a></r>", shells)


def test_places_of_a_second_cut_are_counted_from_the_source() -> None:
    shells = {".": {"a": 10}}
    xml = "<r>" + "".join(f"<a>{number:030}</a>" for number in range(8)) + "</r>"
    pieces = split_further(xml, shells, 120)
    assert len(pieces) > 1
    places = [
        place
        for piece in pieces
        for place, _ in leaves(piece.xml, {path: dict(missing) for path, missing in piece.shells.items()})
    ]
    assert places == [f"a[{number}]" for number in range(11, 19)]
