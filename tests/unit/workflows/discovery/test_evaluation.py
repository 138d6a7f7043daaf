from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.workflows.discovery.evaluation import (
    Evaluation,
    Gold,
    GoldNode,
    GoldValue,
    Scope,
    Score,
    evaluate,
    field_of,
    node_key,
)

Fact = dict[str, Any]
Fields = list[tuple[str, str]]

names = st.sampled_from(["a", "b", "/c/0/d", "/c/1/d"])
values = st.sampled_from(["1", "2", "x y", ""])
nodes = st.dictionaries(
    st.integers(1, 6).map("/r/n[{}]".format), st.lists(st.tuples(names, values), max_size=8), min_size=1
)


def fact(section_path: str, fields: Fields, *, grounded: bool = True) -> Fact:
    written = [{"name": name, "value": value, "path": "p", "grounded": grounded} for name, value in fields]
    return {"section_path": section_path, "node_type": "n", "fields": written, "references": []}


def gold_of(content: dict[str, Fields]) -> Gold:
    return {
        node_key(path): GoldNode(path, [GoldValue(name, value) for name, value in fields])
        for path, fields in content.items()
    }


def judged(gold: dict[str, Fields], found: list[Fact], **scope: Any) -> Evaluation:
    return evaluate(gold_of(gold), found, Scope(**scope))


def brief(evaluation: Evaluation) -> tuple[int, int, int]:
    """True positives, false positives, false negatives."""
    micro = evaluation.micro
    return micro.true_positives, micro.false_positives, micro.false_negatives


# -- what is right ------------------------------------------------------------------------------------------


@given(nodes, st.randoms(use_true_random=False))
def test_a_run_that_is_its_own_gold_is_all_right_in_whatever_order(
    content: dict[str, Fields], dice: random.Random
) -> None:
    facts = [fact(path, dice.sample(fields, len(fields))) for path, fields in content.items()]
    dice.shuffle(facts)
    result = judged(content, facts)
    total = sum(map(len, content.values()))
    assert brief(result) == (total, 0, 0)
    assert result.wrong.count == result.missed.count == result.extra.count == 0
    expected = 1.0 if total else None
    assert (result.micro.precision, result.micro.recall, result.micro.f1) == (expected,) * 3
    assert result.macro == (expected,) * 3


@given(nodes, st.data())
def test_every_value_taken_out_of_a_run_is_missed_and_lowers_recall_by_its_share(
    content: dict[str, Fields], data: st.DataObject
) -> None:
    places = [(path, number) for path, fields in content.items() for number in range(len(fields))]
    gone = data.draw(st.sets(st.sampled_from(places))) if places else set()
    left = [
        fact(path, [field for number, field in enumerate(fields) if (path, number) not in gone])
        for path, fields in content.items()
    ]
    result = judged(content, left)
    assert brief(result) == (len(places) - len(gone), 0, len(gone))
    assert result.missed.count == len(gone)
    lost = Counter((path, *content[path][number]) for path, number in gone)
    assert Counter((m.section_path, m.name, m.expected) for m in result.missed.listed) == lost
    if places:
        assert result.micro.recall == pytest.approx(1 - len(gone) / len(places))


@given(nodes, nodes)
def test_what_is_found_and_what_is_expected_always_add_up(
    expected: dict[str, Fields], found: dict[str, Fields]
) -> None:
    result = judged(expected, [fact(path, fields) for path, fields in found.items()], all_nodes=True)
    right, false, unfound = brief(result)
    assert right + false == sum(map(len, found.values()))
    assert right + unfound == sum(map(len, expected.values()))
    assert false == result.wrong.count + result.extra.count
    assert unfound == result.wrong.count + result.missed.count


def test_equal_values_are_matched_one_to_one() -> None:
    result = judged({"/r/n[1]": [("a", "1"), ("a", "1")]}, [fact("/r/n[1]", [("a", "1")] * 3)])
    assert brief(result) == (2, 1, 0)
    assert result.extra.count == 1


def test_a_value_in_place_of_another_is_wrong_and_counts_on_both_sides() -> None:
    result = judged({"/r/n[1]": [("a", "1"), ("a", "2"), ("b", "3")]}, [fact("/r/n[1]", [("a", "2"), ("a", "9")])])
    assert brief(result) == (1, 1, 2)
    (wrong,) = result.wrong.listed
    assert (wrong.name, wrong.expected, wrong.found) == ("a", "1", "9")
    (missed,) = result.missed.listed
    assert (missed.name, missed.expected, missed.found) == ("b", "3", None)


def test_the_facts_of_pieces_of_one_node_are_judged_together() -> None:
    result = judged(
        {"/r/n[1]": [("a", "1"), ("b", "2")]}, [fact("/r/n[1]", [("b", "2")]), fact("/r/n[1]", [("a", "1")])]
    )
    assert brief(result) == (2, 0, 0)


@pytest.mark.parametrize("found", ["x y", " x  y ", "x\n\ty", "x\u00a0y"])
def test_white_space_does_not_matter(found: str) -> None:
    assert brief(judged({"/r/n[1]": [("a", "x y")]}, [fact("/r/n[1]", [("a", found)])])) == (1, 0, 0)


@pytest.mark.parametrize("found", ["12.5", "012.50", "12,50", "x"])
def test_everything_else_matters(found: str) -> None:
    assert brief(judged({"/r/n[1]": [("a", "12.50")]}, [fact("/r/n[1]", [("a", found)])])) == (0, 1, 1)


@pytest.mark.parametrize("written", ["/r/b[1]/n[2]", "/r[1]/b[1]/n[2]", "r/b/n[2]", "/r/b/n[2]/ "])
def test_a_node_is_the_same_with_and_without_the_index_of_a_first(written: str) -> None:
    assert node_key(written) == node_key("/r/b[1]/n[2]")
    assert node_key(written) != node_key("/r/b[1]/n[1]")
    assert node_key("/r/b[11]") != node_key("/r/b")


def test_indexes_of_records_are_one_field() -> None:
    assert field_of("/pax/3/name/0") == "/pax/*/name/*"
    assert field_of("Pax/3") == "Pax/3"
    gold = {"/r/n[1]": [("/c/0/d", "1"), ("/c/1/d", "2")]}
    result = judged(gold, [fact("/r/n[1]", [("/c/0/d", "1"), ("/c/1/d", "3")])])
    assert result.fields == {"/c/*/d": Score(1, 1, 1)}


# -- what is judged -----------------------------------------------------------------------------------------


def test_nodes_that_the_gold_does_not_name_are_judged_only_when_asked_for() -> None:
    gold = {"/r/n[1]": [("a", "1")]}
    found = [fact("/r/n[1]", [("a", "1")]), fact("/r/n[2]", [("a", "7"), ("b", "8")])]
    assert brief(judged(gold, found)) == (1, 0, 0)
    every = judged(gold, found, all_nodes=True)
    assert brief(every) == (1, 2, 0)
    assert every.facts_outside == 1
    assert [(m.section_path, m.found) for m in every.extra.listed] == [("/r/n[2]", "7"), ("/r/n[2]", "8")]


def test_a_gold_node_without_values_says_that_nothing_is_to_be_found_there() -> None:
    assert brief(judged({"/r/n[1]": []}, [fact("/r/n[1]", [("a", "1")])])) == (0, 1, 0)


def test_a_gold_node_without_facts_is_missed() -> None:
    result = judged({"/r/n[1]": [("a", "1")], "/r/n[2]": [("a", "1")]}, [fact("/r/n[1]", [("a", "1")])])
    assert brief(result) == (1, 0, 1)
    assert (result.nodes_in_gold, result.nodes_without_facts) == (2, 1)


def test_values_without_a_proof_are_judged_only_when_asked_for() -> None:
    gold = {"/r/n[1]": [("a", "1")]}
    found = [fact("/r/n[1]", [("a", "9")], grounded=False)]
    hidden = judged(gold, found)
    assert (brief(hidden), hidden.nodes_without_facts) == ((0, 0, 1), 0)
    assert brief(judged(gold, found, include_ungrounded=True)) == (0, 1, 1)


def test_fields_that_the_gold_never_names_can_be_left_out() -> None:
    gold = {"/r/n[1]": [("a", "1")]}
    found = [fact("/r/n[1]", [("a", "1"), ("other", "2")])]
    assert brief(judged(gold, found)) == (1, 1, 0)
    assert brief(judged(gold, found, gold_fields_only=True)) == (1, 0, 0)


def test_lists_are_bounded_and_counts_are_not() -> None:
    gold = {f"/r/n[{number}]": [("a", "1")] for number in range(1, 10)}
    result = judged(gold, [fact("/r/n[1]", [("a", "1")])], listed=3)
    assert (result.missed.count, len(result.missed.listed)) == (8, 3)


# -- the measures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "measures"),
    [
        ((6, 2, 4), (0.75, 0.6, 2 * 0.75 * 0.6 / (0.75 + 0.6))),
        ((0, 0, 0), (None, None, None)),
        ((0, 3, 0), (0.0, None, 0.0)),
        ((0, 0, 3), (None, 0.0, 0.0)),
        ((0, 2, 2), (0.0, 0.0, 0.0)),
    ],
)
def test_the_formulas_and_what_a_division_by_zero_gives(
    counts: tuple[int, int, int], measures: tuple[Any, ...]
) -> None:
    score = Score(*counts)
    assert (score.precision, score.recall, score.f1) == pytest.approx(measures)


def test_the_macro_mean_gives_each_field_the_same_weight() -> None:
    gold = {"/r/n[1]": [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("c", "5")]}
    result = judged(gold, [fact("/r/n[1]", [("a", "1"), ("a", "2"), ("a", "3"), ("b", "x")])])
    assert result.micro.precision == pytest.approx(3 / 4)
    assert result.macro.precision == pytest.approx((1 + 0) / 2), "c has no precision: nothing of it was found"
    assert result.macro.recall == pytest.approx((1 + 0 + 0) / 3)
    assert result.macro.f1 == pytest.approx((1 + 0 + 0) / 3)
