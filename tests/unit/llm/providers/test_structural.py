from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import BaseModel, ConfigDict

from thresher.core.errors import PermanentLLMError
from thresher.engine.work import Usage
from thresher.llm.client import ModelClient, ModelReply, ModelRequest
from thresher.llm.evidence import Evidence
from thresher.llm.providers.structural import StructuralClient, parse_subtree
from thresher.llm.schema import RecordSchema, ResponseSchema


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    value: str
    path: str


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    node_type: str
    node_ordinal: int
    fields: list[Entry]
    references: list[Entry]
    confidence: float


def ask(subtree: str, *, context: str = "", schema: ResponseSchema | None = None) -> ModelReply:
    client: ModelClient = StructuralClient()
    client.check()
    asked = schema or ResponseSchema.of_model(Answer)
    request = ModelRequest("system", f"{context}{subtree}", subtree, asked, max_output_tokens=16)
    reply = client.complete(request)
    client.close()
    return reply


def test_reply_is_the_answer_asked_for_at_no_cost() -> None:
    reply = ask("<p:Pax xmlns:p='urn:p' ID='P1'><p:City>Tromsø</p:City></p:Pax>")
    answer = Answer.model_validate_json(reply.text, strict=True)
    assert [(entry.name, entry.value, entry.path) for entry in answer.fields] == [
        ("ID", "P1", "@ID"),
        ("City", "Tromsø", "City"),
    ]
    assert (reply.finish_reason, reply.model, reply.usage) == ("stop", "structural", Usage())


def test_a_subtree_that_was_read_already_is_answered_the_same() -> None:
    subtree = "<Pax ID='P1'><City>Oslo</City><City>Bergen</City><PaxRef>P2</PaxRef></Pax>"
    request = ModelRequest("system", subtree, subtree, ResponseSchema.of_model(Answer), max_output_tokens=16)
    known = replace(request, evidence=Evidence.of(parse_subtree(subtree)))
    assert StructuralClient().complete(known) == StructuralClient().complete(request)


def test_nothing_leaves_the_machine_and_the_provider_says_its_name() -> None:
    client = StructuralClient()
    assert (client.provider, client.model, client.leaves_machine) == ("structural", "structural", False)


@pytest.mark.parametrize("context", ["Ordinal: 12\n", "path: a/b\nnode_ordinal = 12\n\n", "Position: 12 of 30\n"])
def test_ordinal_comes_from_a_context_line(context: str) -> None:
    assert json.loads(ask("<Pax>ordinal: 99</Pax>", context=context).text)["node_ordinal"] == 12


def test_ordinal_is_one_where_no_context_line_names_it() -> None:
    assert json.loads(ask("<Pax>\nordinal: 99</Pax>").text)["node_ordinal"] == 1


def test_record_keeps_to_the_lengths_that_its_schema_sets() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 3}, "id": {"type": "string"}}}
    reply = ask("<Pax ID='P1'><City>Tromso</City></Pax>", schema=RecordSchema.of("pax", schema).response)
    assert json.loads(reply.text) == {
        "record": {"city": None, "id": "P1"},
        "proofs": [{"pointer": "/id", "path": "@ID"}],
        "confidence": 1.0,
    }


@pytest.mark.parametrize("subtree", ["", "no XML", "<a><b></a>", "<a>&amp", "<a/><b/>"])
def test_subtree_that_is_no_xml_is_a_permanent_error(subtree: str) -> None:
    with pytest.raises(PermanentLLMError, match="well-formed"):
        ask(subtree)


def test_external_entity_is_not_read() -> None:
    subtree = "<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><a><b>x&e;y</b></a>"
    assert [entry["value"] for entry in json.loads(ask(subtree).text)["fields"]] == ["xy"]
