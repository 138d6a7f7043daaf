"""Properties of mending: nothing is made up, nothing is lost, every JSON survives its wrappings."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thresher.llm.repair import repairs

FACTS = {
    "type": "object",
    "properties": {
        "facts": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        }
    },
    "required": ["facts"],
}
OPEN: dict[str, object] = {}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), json_values, min_size=1)


def without_nul(value: object) -> object:
    if isinstance(value, dict):
        return {key.replace("\0", ""): without_nul(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_nul(entry) for entry in value]
    return value.replace("\0", "") if isinstance(value, str) else value


@example({"\\u0000": None})
@example({"a": "\\\0\0b\\\\u0000"})
@given(objects)
def test_any_object_is_found_in_a_fence_in_prose_and_alone(value: dict[str, object]) -> None:
    text = json.dumps(value)
    for wrapped in (text, f"```json\n{text}\n```", f"Sure. The answer is:\n\n{text}\n"):
        first = next(repairs(wrapped, OPEN))
        assert json.loads(first) == without_nul(value)


@given(st.text(st.characters(exclude_characters="{}[]")))
def test_prose_without_brackets_gives_nothing(text: str) -> None:
    assert list(repairs(text, OPEN)) == []


@given(st.text(alphabet='{}[]",:\\ab1 \n', max_size=60))
def test_every_scalar_of_a_repair_was_written_by_the_model(text: str) -> None:
    for repaired in repairs(text, OPEN):
        for scalar in strings(json.loads(repaired)):
            assert scalar in text or json.dumps(scalar)[1:-1] in text


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for part in value.values() for text in strings(part))]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


def facts_of(text: str) -> list[list[dict[str, str]]]:
    return [json.loads(repaired).get("facts") for repaired in repairs(text, FACTS) if repaired.startswith("{")]


@pytest.mark.parametrize(
    "text",
    ['[{"name": "a"}, {"name": "b"}]', '{"name": "a"}\n{"name": "b"}', '{"facts": [{"name": "a"}, {"name": "b"},]}'],
)
def test_several_entries_stay_several(text: str) -> None:
    assert facts_of(text)[0] == [{"name": "a"}, {"name": "b"}]


def test_one_bare_entry_becomes_a_list_of_one() -> None:
    assert facts_of('{"name": "a"}')[0] == [{"name": "a"}]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_cut_answer_is_never_closed_into_a_shorter_one(cut: int) -> None:
    text = '{"facts": [{"name": "a"}, {"name": "b"}]}'
    assert [facts for facts in facts_of(text[:-cut]) if facts is not None] == []


def test_a_number_keeps_its_written_form_through_a_repair() -> None:
    assert (
        next(repairs('```json\n{"price": 10.50, "n": [1e3, -0.0]}\n```', OPEN)) == '{"price": 10.50, "n": [1e3, -0.0]}'
    )
