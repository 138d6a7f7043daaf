from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from thresher.llm.evidence import Evidence
from thresher.llm.grounding import Grounded, ground, ground_record, read_as_written, written

ORDER = Evidence.of(
    etree.fromstring("""<Item ID="7" xmlns="urn:x"><Price Code="EUR">10.50</Price><Count>105</Count><Ok>true</Ok>
    <Service>Meal</Service><Service>Seat 12A</Service><Empty/>
    <Text>  Costs 10.50 EUR,\n from 2026-01-02 at 12:30 for Ann's well-known -3 friends. </Text></Item>""")
)


@pytest.mark.parametrize(
    ("value", "path", "source_path"),
    [
        ("10.50", "Price", "Price"),
        ("EUR", "Price/@Code", "Price/@Code"),
        ("7", "@ID", "@ID"),
        (7, "@ID", "@ID"),
        (105, "Count", "Count"),
        (True, "Ok", "Ok"),
        ("Seat 12A", "Service[2]", "Service[2]"),
        (" Seat\n12A ", "/Item/Service[2]/text()", "Service[2]"),
        ("Meal", "Service", "Service[1]"),
        ("Costs 10.50 EUR, from 2026-01-02", "Text", "Text"),
        ("10.50", "Text", "Text"),
        ("EUR", "Text", "Text"),
        ("known", "Text", "Text"),
        ("-3", "Text", "Text"),
        ("12:30", "Text", "Text"),
        ("friends", "Text", "Text"),
    ],
)
def test_a_value_that_stands_at_its_path_is_grounded_there(value: object, path: str, source_path: str) -> None:
    assert ground(value, path, ORDER) == Grounded(grounded=True, path=source_path)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("10", "Count"),
        ("10.5", "Price"),
        (10.5, "Price"),
        ("10", "Price"),
        ("10", "Text"),
        ("50", "Text"),
        ("3", "Text"),
        ("01", "Text"),
        ("12", "Text"),
        ("friend", "Text"),
        ("eur", "Price/@Code"),
        ("EUR", "Price"),
        ("105", "Price"),
        ("Eat", "Service"),
        ("", "Empty"),
        ("", "Price"),
        (None, "Price"),
        ("true", "Nothing"),
        ("7", ""),
        ("7", "]]["),
    ],
)
def test_a_value_that_does_not_stand_at_its_path_is_not(value: object, path: str) -> None:
    assert ground(value, path, ORDER) == Grounded(grounded=False, path=path)


def test_each_scalar_of_a_record_needs_its_own_proof() -> None:
    record = read_as_written('{"price": 10.50, "a/b": {"count": [105, 106]}, "none": null, "ok": true, "empty": ""}')
    proofs = {"/price": "Price", "/a~1b/count/0": "Count", "/a~1b/count/1": "Count"}
    values = ground_record(record, proofs, ORDER).values
    assert [(value.pointer, value.value, value.path, value.grounded) for value in values] == [
        ("/price", "10.50", "Price", True),
        ("/a~1b/count/0", "105", "Count", True),
        ("/a~1b/count/1", "106", "Count", False),
        ("/ok", "true", "", False),
    ]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|nested|Expecting"):
        read_as_written(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_a_number_keeps_its_written_form(number: object) -> None:
    assert written(read_as_written(str(number))) == str(number)


@given(st.text(alphabet="ab 1.-,", max_size=12), st.text(alphabet="ab 1.-,", max_size=30))
def test_what_is_grounded_stands_in_the_text(value: str, text: str) -> None:
    element = etree.Element("A")
    element.text = text
    if ground(value, ".", Evidence.of(element)).grounded:
        assert " ".join(value.split()) in " ".join(text.split())


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"])))
def test_every_leaf_grounds_itself(text: str) -> None:
    element = etree.Element("A", attribute=text)
    evidence = Evidence.of(element)
    assert all(ground(leaf.value, leaf.path, evidence).grounded for leaf in evidence.leaves)
