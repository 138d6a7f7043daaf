from __future__ import annotations

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field

from thresher.core.errors import BadConfiguration
from thresher.llm.schema import RecordSchema, ResponseSchema


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str
    value: str = Field(description="as written")


class Whole(BaseModel):
    kind: str
    colour: Colour
    part: Part = Field(description="the first one")
    parts: list[Part]
    note: str | None = None
    confidence: float = Field(ge=0, le=1)


class Tree(BaseModel):
    name: str
    children: list[Tree]


def without_notes(schema: object) -> object:
    if isinstance(schema, dict):
        return {key: without_notes(value) for key, value in schema.items() if key not in ("title", "description")}
    return [without_notes(value) for value in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("model", [Part, Whole, Tree])
def test_the_strict_form_of_a_model_is_the_one_of_the_sdk(model: type[BaseModel]) -> None:
    if model is Tree:
        root = ResponseSchema.of_model(Tree).schema
        assert root["$defs"]["Tree"] == to_strict_json_schema(Tree)["$defs"]["Tree"]
    else:
        assert without_notes(ResponseSchema.of_model(model).schema) == without_notes(to_strict_json_schema(model))


def test_the_response_format_is_ready_to_be_sent() -> None:
    schema = ResponseSchema.of_model(Part)
    assert schema.strict
    assert schema.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "Part", "strict": True, "schema": schema.schema},
    }


USERS = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 5, "pattern": "^A"},
        "note": {"type": "string"},
        "kind": {"enum": ["a", "b"]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 3},
        "price": {"$ref": "#/$defs/price"},
        "any_of": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        "deep": {"allOf": [{"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}]},
    },
    "required": ["id", "tags"],
    "$defs": {"price": {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]}},
}


def test_a_users_schema_is_closed_required_nullable_and_without_refused_keywords() -> None:
    response = ResponseSchema.of_json_schema("my record!", USERS)
    schema = response.schema
    assert response.name == "my_record_"
    assert response.strict
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(USERS["properties"])
    properties = schema["properties"]
    assert properties["id"] == {"type": "string"}
    assert properties["note"] == {"type": ["string", "null"]}
    assert properties["kind"] == {"enum": ["a", "b", None]}
    assert properties["tags"] == {"maxItems": 3, "type": "array", "items": {"type": "string"}}
    assert properties["price"] == {"anyOf": [{"$ref": "#/$defs/price"}, {"type": "null"}]}
    assert properties["any_of"] == {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}
    assert properties["deep"]["required"] == ["x"]
    assert schema["$defs"]["price"]["additionalProperties"] is False


def test_lengths_go_to_servers_that_take_them_only() -> None:
    response = ResponseSchema.of_json_schema("r", USERS)
    assert response.bounded_format["json_schema"]["schema"]["properties"]["id"]["maxLength"] == 5


@pytest.mark.parametrize(
    "properties",
    [
        {"map": {"type": "object", "additionalProperties": {"type": "string"}}},
        {"anything": {}},
        {"anything": True},
        {"list": {"type": "array"}},
        {"pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "string"}}},
    ],
)
def test_what_no_strict_mode_can_say_is_sent_without_strict(properties: dict) -> None:
    response = ResponseSchema.of_json_schema("r", {"type": "object", "properties": properties})
    assert not response.strict
    assert response.response_format["json_schema"]["strict"] is False


def nested(depth: int) -> dict:
    schema: dict = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "/properties/a/type"),
        ({"type": "object", "properties": {"a": {"maxLength": -1}}}, "/properties/a/maxLength"),
        ({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}}, "outside itself"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/nothing"}}}, "refers to nothing"),
        ({"type": "object", "properties": {"a": {"const": float("nan")}}}, "JSON cannot"),
        ({"type": "object", "properties": {"a": {"const": {1, 2}}}}, "JSON cannot"),
        ({"type": "array", "items": {"type": "string"}}, "object"),
        ({"$ref": "#"}, "object"),
        ([], "mapping"),
        (nested(100), "deeper"),
        (nested(3000), "deeper"),
        ({"type": "object", "properties": {f"p{n}": True for n in range(5001)}}, "properties"),
        ({"type": "object", "description": "x" * 130_000}, "characters"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "allOf": [{"$ref": "#/$defs/a"}]}}}, "itself"),
    ],
)
@pytest.mark.parametrize("make", [ResponseSchema.of_json_schema, RecordSchema.of])
def test_an_unusable_schema_is_refused_with_its_name_and_place(make, schema: object, said: str) -> None:  # noqa: ANN001  # two factories
    with pytest.raises(BadConfiguration) as caught:
        make("fares", schema)
    assert '"fares"' in str(caught.value)
    assert said in str(caught.value)


def test_a_record_stands_in_the_answer_with_its_proofs_and_its_references_lead_there() -> None:
    source = {"type": "object", "properties": {"child": {"$ref": "#"}, "price": {"$ref": "#/$defs/p"}}}
    source["$defs"] = {"p": {"type": "object", "properties": {"again": {"$ref": "#/properties/price"}}}}
    schema = RecordSchema.of("r", source).response.schema
    assert list(schema["properties"]) == ["record", "proofs", "confidence"]
    record = schema["properties"]["record"]
    assert record["properties"]["child"]["anyOf"][0] == {"$ref": "#/properties/record"}
    assert schema["$defs"]["p"]["properties"]["again"]["anyOf"][0] == {"$ref": "#/properties/record/properties/price"}


def test_a_record_is_validated_by_the_users_own_schema_without_the_nulls_of_absent_properties() -> None:
    schema = RecordSchema.of("r", USERS)
    record = {"id": "A1", "note": None, "tags": ["x"], "price": {"amount": 1.5}, "any_of": None}
    assert schema.validate(record) == {"id": "A1", "tags": ["x"], "price": {"amount": 1.5}}


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"id": "B1", "tags": []}, "record/id"),
        ({"id": "A1", "tags": ["x", "x"]}, "record/tags"),
        ({"id": "A12345", "tags": []}, "record/id"),
        ({"id": None, "tags": []}, "record/id"),
        ({"id": "A1", "tags": [], "price": {"amount": "1"}}, "record/price/amount"),
        ({"tags": []}, "record"),
        ([], "record"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_with_the_place(record: object, place: str) -> None:
    with pytest.raises(ValueError, match=f"^{place}: "):
        RecordSchema.of("r", USERS).validate(record)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(USERS["properties"])), inner),
    max_leaves=8,
)


@given(json_values)
def test_validating_anything_ends_in_a_record_or_a_value_error(record: object) -> None:
    schema = RecordSchema.of("r", USERS)
    try:
        valid = schema.validate(record)
    except ValueError:
        return
    assert isinstance(valid, dict)
