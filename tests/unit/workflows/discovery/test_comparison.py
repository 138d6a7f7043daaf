from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thresher.workflows.discovery.comparison import Comparison, Counts, Difference, DifferenceKind, State, ValueChange

Fact = dict[str, Any]

_INVERSE = {
    DifferenceKind.ADDED: DifferenceKind.LOST,
    DifferenceKind.LOST: DifferenceKind.ADDED,
    DifferenceKind.CHANGED: DifferenceKind.CHANGED,
}


def value(name: str, text: str, path: str = "p", *, grounded: bool = True) -> dict[str, Any]:
    return {"name": name, "value": text, "path": path, "grounded": grounded}


def fact(section_path: str, *fields: dict[str, Any], node_type: str = "n", references: Any = ()) -> Fact:
    return {
        "section_path": section_path,
        "node_type": node_type,
        "fields": list(fields),
        "references": list(references),
    }


def numbered(*contents: str) -> list[Fact]:
    """A node for each content, at the indexes 1, 2, ..."""
    return [fact(f"/r/n[{number}]", value("a", content)) for number, content in enumerate(contents, start=1)]


def compared(old: list[Fact], new: list[Fact]) -> tuple[list[Difference], Counts]:
    comparison = Comparison(lambda: iter(old), lambda: iter(new))
    return list(comparison.differences()), comparison.counts


def inverse(difference: Difference) -> tuple[Any, ...]:
    changes = [ValueChange(c.kind, c.name, c.path, c.new, c.old) for c in difference.values]
    return _INVERSE[difference.kind], difference.section_path, difference.node_type, frozenset(Counter(changes).items())


def plain(difference: Difference) -> tuple[Any, ...]:
    counted = frozenset(Counter(difference.values).items())
    return difference.kind, difference.section_path, difference.node_type, counted


texts = st.sampled_from(["1", "2"])
values = st.builds(value, st.sampled_from("ab"), texts, st.sampled_from("pq"), grounded=st.booleans())
facts = st.lists(
    st.builds(
        lambda place, kind, fields, references: fact(place, *fields, node_type=kind, references=references),
        st.sampled_from(["/r/n[1]", "/r/n[2]", "/r/n[3]"]),
        st.sampled_from("nm"),
        st.lists(values, max_size=3),
        st.lists(values, max_size=1),
    ),
    max_size=7,
)


@given(facts, st.randoms(use_true_random=False))
def test_a_run_equals_itself_whatever_the_order_of_its_values(run: list[Fact], dice: random.Random) -> None:
    other = [fact | {"fields": dice.sample(fact["fields"], len(fact["fields"]))} for fact in run]
    differences, counts = compared(run, other)
    assert differences == []
    assert counts == Counts(same=len(run))
    assert counts.equal


@given(facts, facts)
def test_the_other_way_round_gives_the_inverse(old: list[Fact], new: list[Fact]) -> None:
    there, counts = compared(old, new)
    back, counts_back = compared(new, old)
    assert Counter(map(plain, there)) == Counter(map(inverse, back))
    assert (counts.same, counts.moved, counts.changed) == (counts_back.same, counts_back.moved, counts_back.changed)
    assert (counts.added, counts.lost) == (counts_back.lost, counts_back.added)


@given(facts, facts)
def test_every_fact_of_both_runs_is_accounted_for(old: list[Fact], new: list[Fact]) -> None:
    differences, counts = compared(old, new)
    assert counts.same + counts.moved + counts.changed + counts.lost == len(old)
    assert counts.same + counts.moved + counts.changed + counts.added == len(new)
    assert len(differences) == counts.changed + counts.added + counts.lost
    assert all(difference.values for difference in differences if difference.kind is DifferenceKind.CHANGED)


@given(st.lists(st.integers(), unique=True, min_size=1, max_size=12), st.integers(0, 12))
def test_an_inserted_node_shifts_the_others_and_changes_none(contents: list[int], place: int) -> None:
    old = [str(content) for content in contents]
    new = [*old[:place], "inserted", *old[place:]]
    differences, counts = compared(numbered(*old), numbered(*new))
    assert [difference.kind for difference in differences] == [DifferenceKind.ADDED]
    assert [change.new for change in differences[0].values] == [State("inserted", grounded=True)]
    assert counts.same == min(place, len(old))
    assert counts.moved == len(old) - counts.same


def test_nodes_that_change_places_are_moved_which_is_no_difference() -> None:
    differences, counts = compared(numbered("1", "2"), numbered("2", "1"))
    assert (differences, counts, counts.equal) == ([], Counts(moved=2), True)


def test_a_node_that_keeps_its_place_keeps_its_partner_when_a_twin_moves() -> None:
    old = numbered("x", "x")
    new = [fact("/r/n[1]", value("a", "y")), fact("/r/n[5]", value("a", "x"))]
    differences, counts = compared(old, new)
    assert [(d.kind, d.section_path) for d in differences] == [(DifferenceKind.CHANGED, "/r/n[1]")]
    assert (counts.changed, counts.moved) == (1, 1)


def test_a_changed_fact_says_which_values_changed_came_and_went() -> None:
    old = [fact("/r/n[1]", value("a", "1"), value("b", "2"), value("c", "3"), value("d", "4"))]
    new = [fact("/r/n[1]", value("a", "1"), value("b", "9"), value("c", "3", grounded=False), value("e", "5"))]
    (difference,), counts = compared(old, new)
    assert difference.kind is DifferenceKind.CHANGED
    assert [(change.name, change.old, change.new) for change in difference.values] == [
        ("b", State("2", grounded=True), State("9", grounded=True)),
        ("c", State("3", grounded=True), State("3", grounded=False)),
        ("d", State("4", grounded=True), None),
        ("e", None, State("5", grounded=True)),
    ]
    assert (counts.values_changed, counts.values_lost, counts.values_added) == (2, 1, 1)


def test_of_several_values_of_a_name_those_that_stayed_are_no_change() -> None:
    old = [fact("/r/n[1]", value("a", "1"), value("a", "2"), value("a", "2"))]
    new = [fact("/r/n[1]", value("a", "2"), value("a", "3"), value("a", "1"))]
    (difference,), _ = compared(old, new)
    (change,) = difference.values
    assert (change.old, change.new) == (State("2", grounded=True), State("3", grounded=True))


def test_references_are_compared_and_confidence_is_not() -> None:
    old = [fact("/r/n[1]", references=[value("ref", "P1")]) | {"confidence": 0.5}]
    same = [fact("/r/n[1]", references=[value("ref", "P1")]) | {"confidence": 0.9}]
    other = [fact("/r/n[1]", references=[value("ref", "P2")])]
    assert compared(old, same)[0] == []
    (difference,), _ = compared(old, other)
    assert [change.kind for change in difference.values] == ["reference"]


def test_only_nodes_of_the_same_type_are_compared() -> None:
    differences, _ = compared(
        [fact("/r/*[1]", value("a", "1"), node_type="x")], [fact("/r/*[1]", value("a", "2"), node_type="y")]
    )
    assert {difference.kind for difference in differences} == {DifferenceKind.ADDED, DifferenceKind.LOST}


def test_a_run_that_grows_between_the_two_readings_is_read_to_its_end() -> None:
    readings = iter([numbered("1", "2"), numbered("1", "2", "3")])
    comparison = Comparison(lambda: iter(numbered("1", "2")), lambda: iter(next(readings)))
    assert list(comparison.differences()) == [], "what came later is as unknown as what comes after the diff"


def test_differences_come_while_the_runs_are_read() -> None:
    count = 1_000
    seen = 0

    def counted(contents: list[Fact]) -> Iterator[Fact]:
        nonlocal seen
        for one in contents:
            seen += 1
            yield one

    old, new = numbered(*map(str, range(count))), numbered(*(f"{number}x" for number in range(count)))
    differences = Comparison(lambda: counted(old), lambda: counted(new)).differences()
    next(differences)
    assert seen == 2 * count + 2, "both once to align, and one fact of each to tell the first difference"
