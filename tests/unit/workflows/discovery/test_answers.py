from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from thresher.workflows.discovery.answers import NodeAnswer


def answer(confidence: object, **value: object) -> NodeAnswer:
    field = {"name": "a", "value": "1", "path": "a", **value}
    fields = {"node_type": "i", "node_ordinal": 1, "fields": [field], "references": [], "confidence": confidence}
    return NodeAnswer.model_validate_json(json.dumps(fields))


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
    assert field["value"] == "12.5"
    assert "comment" not in field


@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}])
def test_a_value_that_is_no_scalar_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        answer(1, value=value)
