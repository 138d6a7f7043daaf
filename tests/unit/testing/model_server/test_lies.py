from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from lxml import etree

from thresher.llm.evidence import Evidence
from thresher.llm.structural.fill import fill_with_proofs
from thresher.testing.model_server.faults import Lottery
from thresher.testing.model_server.lies import Liar, Lie
from thresher.testing.model_server.options import Options
from thresher.testing.model_server.prompt import DEFAULT_SCHEMA

XML = "<r>" + "".join(f"<x>value {n}</x>" for n in range(1000)) + "</r>"


def told(schema: Any, xml: str, *, share: float = 1.0, seed: int = 0, key: str = "k") -> tuple[Any, list[Lie]]:
    answer, proofs = fill_with_proofs(schema, Evidence.of(etree.fromstring(xml)))
    return answer, list(Liar(share, Lottery(Options(seed=seed))).tell(answer, proofs, key, xml))


def test_share_of_fields_is_lied_about_and_every_lie_is_in_the_answer() -> None:
    answer, lies = told(DEFAULT_SCHEMA, XML, share=0.1)
    assert 70 <= len(lies) <= 130
    wrong = {field["path"]: field["value"] for field in answer["fields"] if field["value"] not in XML}
    assert wrong == {lie.path: lie.value for lie in lies}
    assert all(str(lie.truth) in XML for lie in lies)


def test_same_seed_and_subtree_are_lied_about_alike() -> None:
    assert told(DEFAULT_SCHEMA, XML, share=0.1)[1] == told(DEFAULT_SCHEMA, XML, share=0.1)[1]
    assert told(DEFAULT_SCHEMA, XML, share=0.1)[1] != told(DEFAULT_SCHEMA, XML, share=0.1, seed=1)[1]
    assert told(DEFAULT_SCHEMA, XML, share=0.1)[1] != told(DEFAULT_SCHEMA, XML, share=0.1, key="other")[1]


@pytest.mark.parametrize(
    ("part", "written"),
    [
        ({"type": "string"}, "abc"),
        ({"type": "string", "maxLength": 1}, "a"),
        ({"type": "integer"}, "7"),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "7"),
        ({"type": "number"}, "7.50"),
        ({"type": "boolean"}, "true"),
        ({"enum": ["a", "b"]}, "a"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "7"),
    ],
)
def test_wrong_value_is_not_the_true_one_and_fits_the_schema(part: dict[str, Any], written: str) -> None:
    schema = {"type": "object", "properties": {"x": part}, "required": ["x"]}
    answer, lies = told(schema, f"<r><x>{written}</x></r>")
    assert len(lies) == 1
    assert answer["x"] == lies[0].value != lies[0].truth
    Draft202012Validator(schema).validate(answer)


@pytest.mark.parametrize("part", [{"const": "a"}, {"enum": ["a"]}])
def test_value_that_can_only_be_the_true_one_is_left_alone(part: dict[str, Any]) -> None:
    answer, lies = told({"type": "object", "properties": {"x": part}, "required": ["x"]}, "<r><x>a</x></r>")
    assert (answer, lies) == ({"x": "a"}, [])
