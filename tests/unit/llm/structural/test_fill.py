from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from lxml import etree

from thresher.llm.evidence import Evidence
from thresher.llm.structural.fill import fill
from thresher.llm.structural.scalars import to_text

SEGMENT = """<s:Offer xmlns:s="urn:s" OfferID="O1" Owner="ZZ">
  <s:ValidUntil>2026-01-31</s:ValidUntil>
  <s:OrderItems>
    <s:OrderItem ID="I1"><s:PassengerRef>PAX1</s:PassengerRef>
      <s:Price><s:TotalAmount Code="EUR">12.50</s:TotalAmount></s:Price></s:OrderItem>
    <s:OrderItem ID="I2"><s:PassengerRefs>PAX1 PAX2</s:PassengerRefs>
      <s:Seats>3</s:Seats><s:Refundable>true</s:Refundable></s:OrderItem>
  </s:OrderItems>
  <s:Airline><s:Name>Öst Air</s:Name></s:Airline><s:Agency><s:Name>Trips</s:Name></s:Agency>
</s:Offer>"""

ENTRY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "value": {"type": "string"}, "path": {"type": "string"}},
    "required": ["name", "value", "path"],
    "additionalProperties": False,
}
ANSWER = {
    "type": "object",
    "$defs": {"Entry": ENTRY},
    "properties": {
        "node_type": {"type": "string"},
        "node_ordinal": {"type": "integer"},
        "fields": {"type": "array", "items": {"$ref": "#/$defs/Entry"}},
        "references": {"type": "array", "items": {"$ref": "#/$defs/Entry"}},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["node_type", "node_ordinal", "fields", "references", "confidence"],
    "additionalProperties": False,
}


def evidence(xml: str = SEGMENT) -> Evidence:
    return Evidence.of(etree.fromstring(xml))


def record(schema: dict[str, Any], xml: str = SEGMENT) -> Any:
    return fill(schema, evidence(xml))


def properties(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


def wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    proof = properties(pointer={"type": "string"}, path={"type": "string"})
    return properties(record=schema, proofs={"type": "array", "items": proof}, confidence={"type": "number"})


def at(value: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        value = value[int(step)] if isinstance(value, list) else value[step.replace("~1", "/").replace("~0", "~")]
    return value


def test_answer_lists_every_leaf_with_its_path() -> None:
    answer = fill(ANSWER, evidence(), ordinal=7)
    assert (answer["node_type"], answer["node_ordinal"], answer["confidence"]) == ("Offer", 7, 1.0)
    assert [(entry["path"], entry["value"]) for entry in answer["fields"]] == [
        (leaf.path, leaf.value) for leaf in evidence().leaves
    ]


def test_field_has_its_parents_name_before_it_where_the_bare_name_is_ambiguous() -> None:
    named = {entry["path"]: entry["name"] for entry in fill(ANSWER, evidence())["fields"]}
    assert named["Airline/Name"] == "Airline/Name"
    assert named["Agency/Name"] == "Agency/Name"
    assert named["OrderItems/OrderItem[1]/@ID"] == named["OrderItems/OrderItem[2]/@ID"] == "ID"


def test_references_are_kept_as_written_and_lists_give_one_each() -> None:
    answer = fill(ANSWER, evidence())
    assert [(entry["name"], entry["value"], entry["path"]) for entry in answer["references"]] == [
        ("PassengerRef", "PAX1", "OrderItems/OrderItem[1]/PassengerRef"),
        ("PassengerRefs", "PAX1", "OrderItems/OrderItem[2]/PassengerRefs"),
        ("PassengerRefs", "PAX2", "OrderItems/OrderItem[2]/PassengerRefs"),
    ]
    assert "PAX1 PAX2" in [entry["value"] for entry in answer["fields"]]


@pytest.mark.parametrize("name", ["PaxRefID", "SegmentRef", "DatedMarketingSegmentRefId", "ref", "idref", "IDREF"])
def test_name_of_a_reference_is_known(name: str) -> None:
    answer = fill(ANSWER, evidence(f"<r><x {name}='A'/></r>"))
    assert [entry["value"] for entry in answer["references"]] == ["A"]


@pytest.mark.parametrize("name", ["PaxID", "href", "Prefer", "xref", "Reference", "Referral"])
def test_name_of_no_reference_is_left_alone(name: str) -> None:
    assert fill(ANSWER, evidence(f"<r {name}='A'/>"))["references"] == []


def test_listing_keeps_to_the_most_items_and_the_longest_value() -> None:
    short = {"type": "string", "maxLength": 4}
    entry = properties(name={"type": "string"}, value=short, path={"type": "string"}, grounded={"type": "boolean"})
    answer = record(properties(fields={"type": "array", "items": entry, "maxItems": 2}))
    assert [field["value"] for field in answer["fields"]] == ["O1", "ZZ"]
    Draft202012Validator(properties(fields={"type": "array", "items": entry, "maxItems": 2})).validate(answer)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offer_id", "O1"),
        ("OfferID", "O1"),
        ("offer-id", "O1"),
        ("owner", "ZZ"),
        ("validUntil", "2026-01-31"),
        ("airline_name", "Öst Air"),
        ("agencyName", "Trips"),
        ("total_amount", "12.50"),
        ("total_amount_code", "EUR"),
        ("amount", "12.50"),
        ("amount_code", "EUR"),
        ("airline", "Öst Air"),
        ("order_item_id", "I1"),
        ("nothing", None),
    ],
)
def test_property_is_matched_by_name_whatever_its_spelling(name: str, value: str | None) -> None:
    assert record(properties(**{name: {"type": ["string", "null"]}})) == {name: value}


@pytest.mark.parametrize(
    ("schema", "written", "value"),
    [
        ({"type": "integer"}, "42", 42),
        ({"type": "number"}, "12.50", 12.5),
        ({"type": "number"}, "-3", -3),
        ({"type": "boolean"}, "true", True),
        ({"type": ["integer", "string"]}, "4b", "4b"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "7", 7),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "seven", None),
        ({"type": ["integer", "null"]}, "12.5", None),
        ({"type": ["number", "null"]}, "1,000", None),
        ({"type": ["number", "null"]}, "1e999", None),
        ({"type": ["integer", "null"]}, "007", None),
        ({"type": ["integer", "null"]}, "+7", None),
        ({"type": ["boolean", "null"]}, "TRUE", None),
        ({"type": ["number", "null"]}, "NaN", None),
        ({"type": ["boolean", "null"]}, "yes", None),
        ({"enum": ["ADT", "CHD"]}, "CHD", "CHD"),
        ({"enum": [1, 2, None]}, "2", 2),
        ({"type": ["string", "null"], "enum": ["ADT", None]}, "INF", None),
        ({"const": "X"}, "X", "X"),
        ({"type": ["string", "null"], "maxLength": 2}, "abc", None),
        ({"type": ["integer", "null"], "maximum": 9}, "10", None),
        ({"type": "string"}, "007", "007"),
    ],
)
def test_value_is_coerced_only_as_far_as_its_written_form_allows(
    schema: dict[str, Any], written: str, value: Any
) -> None:
    filled = record(properties(x=schema), f"<r><x>{written}</x></r>")["x"]
    assert filled == value
    assert isinstance(filled, type(value))


@pytest.mark.parametrize("written", ["12.50", "0.10", "-3.0", "1E5", "12345678901234567890.123456789", "810.0", "3"])
def test_number_is_answered_as_it_is_written(written: str) -> None:
    filled = record(
        properties(x=properties(y={"type": "array", "items": {"type": "number"}})), f"<r><y>{written}</y></r>"
    )
    assert to_text(filled) == f'{{"x":{{"y":[{written}]}}}}'


def test_array_of_objects_is_read_from_repeated_elements() -> None:
    item = properties(id={"type": "string"}, seats={"type": ["integer", "null"]})
    expected = [{"id": "I1", "seats": None}, {"id": "I2", "seats": 3}]
    for name in ("order_items", "orderItem", "OrderItemList"):
        assert record(properties(**{name: {"type": "array", "items": item}})) == {name: expected}


def test_array_of_another_name_is_read_from_the_elements_that_hold_its_properties() -> None:
    item = properties(ID={"type": "string"}, price={"type": ["object", "null"], "properties": {}})
    assert [entry["ID"] for entry in record(properties(bookings={"type": "array", "items": item}))["bookings"]] == [
        "I1",
        "I2",
    ]


def test_array_of_scalars_takes_every_value_and_every_part_of_a_reference_list() -> None:
    schema = properties(passenger_refs={"type": "array", "items": {"type": "string"}})
    xml = "<r><s><PassengerRefs>A B</PassengerRefs></s><s><PassengerRefs>C</PassengerRefs></s></r>"
    assert record(schema, xml) == {"passenger_refs": ["A", "B", "C"]}
    bounded = properties(passenger_refs={"type": "array", "items": {"type": "string"}, "maxItems": 2})
    assert record(bounded, xml) == {"passenger_refs": ["A", "B"]}


def test_every_scalar_of_a_record_is_proved_by_a_path_that_holds_it() -> None:
    item = properties(id={"type": "string"}, refs={"type": "array", "items": {"type": "string"}})
    schema = wrapped(
        properties(
            owner={"type": "string"},
            airline=properties(name={"type": "string"}),
            order_items={"type": "array", "items": item},
            **{"a/b~c": {"type": ["string", "null"]}},
        )
    )
    answer = record(schema)
    assert answer["record"]["airline"] == {"name": "Öst Air"}
    assert answer["confidence"] == 1.0
    proofs = {proof["pointer"]: proof["path"] for proof in answer["proofs"]}
    assert proofs["/order_items/1/id"] == "OrderItems/OrderItem[2]/@ID"
    for pointer, path in proofs.items():
        assert at(answer["record"], pointer) in evidence().at(path)[0].value


def test_what_is_not_there_is_the_least_value_and_has_no_proof() -> None:
    schema = properties(
        a={"type": "string", "minLength": 2},
        b={"type": "integer", "minimum": 5},
        c={"type": "array", "items": {"type": "boolean"}, "minItems": 2},
        d={"type": "object", "properties": {"z": {"const": 4}}, "required": ["z"]},
        e={"enum": ["p", "q"]},
    )
    answer = record(wrapped(schema), "<r/>")
    assert answer["record"] == {"a": "??", "b": 5, "c": [False, False], "d": {"z": 4}, "e": "p"}
    assert answer["proofs"] == []


def test_optional_property_is_left_out_where_nothing_is_said() -> None:
    assert record({"type": "object", "properties": {"nope": {"type": "string"}}}) == {}


def test_open_object_takes_the_leaves_by_name() -> None:
    assert record({"type": "object", "additionalProperties": {"type": "integer"}}, "<r a='1' b='x'><c>2</c></r>") == {
        "a": 1,
        "c": 2,
    }


def test_schema_that_contains_itself_is_followed_as_far_as_the_subtree_goes() -> None:
    tree = properties(name={"type": "string"}, part={"type": "array", "items": {"$ref": "#"}})
    assert record(tree, "<r name='1'><part name='2'><part name='3'/></part><part name='4'/></r>") == {
        "name": "1",
        "part": [{"name": "2", "part": [{"name": "3", "part": []}]}, {"name": "4", "part": []}],
    }


def test_schema_without_any_finite_answer_ends_all_the_same() -> None:
    endless = properties(a={"$ref": "#"}, b={"$ref": "#"})
    assert isinstance(record(endless), dict)
    assert record({"$ref": "#"}) is None


# Any schema -----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["id", "name", "total_amount", "order_items", "seats", "refs", "x/y~z"])
SCALARS = st.one_of(
    st.builds(
        lambda low, extra: {"type": "string", "minLength": low, "maxLength": low + extra},
        st.integers(0, 3),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, extra: {"type": "integer", "minimum": low, "maximum": low + extra},
        st.integers(-9, 9),
        st.integers(0, 9),
    ),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low, "maximum": low + 1}, st.integers(-3, 3)),
    st.builds(lambda step: {"type": "integer", "multipleOf": step, "minimum": 1}, st.integers(1, 7)),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({}),
    st.lists(st.sampled_from(["I1", "3", 3, True, None, "z"]), min_size=1, max_size=3).map(lambda some: {"enum": some}),
    st.sampled_from(["I2", 0, None, False]).map(lambda one: {"const": one}),
    st.just({"type": ["string", "null"]}),
)


def deeper(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.builds(closed, st.dictionaries(NAMES, inner, max_size=4), st.booleans()),
        st.builds(
            lambda item, low, extra: {"type": "array", "items": item, "minItems": low, "maxItems": low + extra},
            inner,
            st.integers(0, 2),
            st.integers(0, 3),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
        inner.map(lambda part: {"anyOf": [part, {"type": "null"}]}),
    )


def closed(parts: dict[str, Any], all_required: bool) -> dict[str, Any]:  # noqa: FBT001  # drawn by hypothesis
    required = list(parts) if all_required else list(parts)[:1]
    return {"type": "object", "properties": parts, "required": required, "additionalProperties": False}


SCHEMAS = st.recursive(SCALARS, deeper, max_leaves=12)


@given(SCHEMAS)
def test_answer_to_any_schema_validates(schema: dict[str, Any]) -> None:
    Draft202012Validator(schema).validate(record(schema))


@given(SCHEMAS)
def test_record_of_any_schema_validates_with_its_proofs_in_place(schema: dict[str, Any]) -> None:
    around = wrapped({"$ref": "#/$defs/Record"}) | {"$defs": {"Record": schema}}
    answer = record(around)
    Draft202012Validator(around).validate(answer)
    for proof in answer["proofs"]:
        assert not isinstance(at(answer["record"], proof["pointer"]), (dict, list))
        assert len(evidence().at(proof["path"])) == 1


@given(SCHEMAS)
def test_same_schema_and_subtree_give_the_same_answer(schema: dict[str, Any]) -> None:
    assert record(schema) == record(schema)
