from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thresher.workflows.discovery.answers import NodeAnswer, ReadAnswer


def answer(confidence: object, **value: object) -> ReadAnswer:
    field = {"name": "a", "value": "1", "path": "a", **value}
    fields = {"node_type": "i", "node_ordinal": 1, "fields": [field], "references": [], "confidence": confidence}
    return ReadAnswer.of_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0.85, 0.85), (1, 1.0), (0, 0.0), (90, 0.9), ("90%", 0.9), ("90 %", 0.9), (" 0.7 ", 0.7), ("85", 0.85),
        ("high", 0.9), ("High", 0.9), ("very high", 0.95), ("MEDIUM", 0.6), ("moderate", 0.6), ("low", 0.3),
        ("very low", 0.1),
    ],
)  # fmt: skip
def test_confidence_is_understood_as_models_write_it(written: object, meant: float) -> None:
    assert answer(written).confidence == pytest.approx(meant)


@pytest.mark.parametrize("written", ["certain-ish", None, -0.1, 101, "1000%", [0.5], {"x": 1}, "nan", ""])
def test_what_is_no_confidence_is_not_guessed(written: object) -> None:
    with pytest.raises(ValidationError):
        answer(written)


def test_numbers_become_text_and_unknown_keys_are_passed_over() -> None:
    (field,) = answer(1, value=12.5, comment="x").fields
    assert (field.name, field.value, field.path) == ("a", "12.5", "a")


@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}])
def test_a_value_that_is_no_scalar_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        answer(1, value=value)


SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=5),
    st.sampled_from(["high", "90%", "1", "", "0.5", True, False, None, 1, 0, 90, -1, 101, 0.5, 1.0, 1e300, 2**70]),
    st.floats(),
    st.lists(st.just(1), max_size=1),
)
VALUES = st.one_of(
    st.fixed_dictionaries(
        {"name": st.text(max_size=3), "value": SCALARS, "path": st.text(max_size=3)}, optional={"x": SCALARS}
    ),
    st.fixed_dictionaries({"name": st.just("a")}, optional={"value": st.just("1"), "path": st.just("b")}),
    SCALARS,
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "node_type": st.one_of(st.just("Pax"), SCALARS),
        "node_ordinal": st.one_of(st.just(1), SCALARS),
        "fields": st.one_of(st.lists(VALUES, max_size=3), SCALARS),
        "references": st.one_of(st.just([]), st.lists(VALUES, max_size=1)),
        "confidence": st.one_of(st.just(0.9), SCALARS),
        "x": SCALARS,
    },
)
TEXTS = st.one_of(
    st.builds(json.dumps, ANSWERS, ensure_ascii=st.booleans()),
    st.builds(lambda answer, cut: json.dumps(answer)[:cut], ANSWERS, st.integers(0, 200)),
    st.builds(lambda answer, twice: json.dumps(answer)[:-1] + ", " + json.dumps(twice)[1:], ANSWERS, ANSWERS),
    st.builds(lambda answer, raw: json.dumps(answer).replace("Pax", raw), ANSWERS, st.text(max_size=2)),
)


@given(TEXTS)
def test_an_answer_that_keeps_to_the_letter_is_read_as_any_other(text: str) -> None:
    assert _read(ReadAnswer.of_json, text) == _read(
        lambda text: ReadAnswer.of(NodeAnswer.model_validate_json(text)), text
    )


def _read(reader: Any, text: str) -> ReadAnswer | None:
    try:
        answer: ReadAnswer = reader(text)
    except ValueError:
        return None
    return answer
