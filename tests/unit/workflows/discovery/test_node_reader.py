from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from thresher.core.errors import MalformedDocument, UnusableAnswer
from thresher.engine.control import Interrupted
from thresher.engine.work import Run, Usage
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.masking import Masker
from thresher.llm.providers.structural import StructuralClient
from thresher.workflows.discovery.configurations import NodeConfiguration
from thresher.workflows.discovery.node_reader import AnswerBounds, Node, NodeReader

PAX = (
    "<Pax><PaxID>P1</PaxID><Individual><GivenName>Wilhelmina</GivenName><Surname>Quackenbush</Surname></Individual>"
    "<EmailAddress>wilhelmina@example.org</EmailAddress><Seat row='12'>12C</Seat></Pax>"
)
PERSONAL = ("Wilhelmina", "Quackenbush", "wilhelmina@example.org")


class Attempt:
    """An attempt that keeps what it is told."""

    run: Run

    def __init__(self, *, stopping: bool = False) -> None:
        self.usage, self.answers = Usage(), list[str]()
        self._stopping = stopping

    def record_usage(self, usage: Usage) -> None:
        self.usage += usage

    def keep_answer(self, raw_answer: str) -> None:
        self.answers.append(raw_answer)

    def permit(self, resource: str) -> AbstractContextManager[None]:
        assert resource
        return nullcontext()

    def about_to_wait(self) -> None: ...

    def raise_if_stopping(self) -> None:
        if self._stopping:
            raise Interrupted("stopping")


class Echo(StructuralClient):
    """Reads what it is sent as the structural provider does, but as one that is far away."""

    provider = "openai"
    model = "echo"
    leaves_machine = True
    resource = None

    def __init__(self) -> None:
        self.seen: list[ModelRequest] = []

    def complete(self, request: ModelRequest) -> ModelReply:
        self.seen.append(request)
        return super().complete(request)


class Saying(Echo):
    """Answers these texts, one after the other."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self._texts = list(texts)

    def complete(self, request: ModelRequest) -> ModelReply:
        self.seen.append(request)
        return ModelReply(self._texts.pop(0), "stop", "saying", Usage(requests=1))


def node(xml: str, shells: dict[str, dict[str, int]] | None = None) -> Node:
    return Node(xml, "/List/Pax[1]", "Pax", 1, shells or {})


def said(*values: tuple[str, str], confidence: object = "high") -> str:
    fields = [{"name": path, "value": value, "path": path} for path, value in values]
    answer = {"node_type": "Pax", "node_ordinal": 1, "fields": fields, "references": [], "confidence": confidence}
    return json.dumps(answer)


def test_the_structural_reading_is_whole_proved_and_labelled() -> None:
    fact = NodeReader(StructuralClient(), masker=Masker()).read(node(PAX), Attempt())
    assert fact.extractor == "structural"
    assert not fact.pii_masked, "nothing leaves the machine, so nothing is masked"
    assert {(field.path, field.value) for field in fact.fields} >= {
        ("PaxID", "P1"),
        ("Seat/@row", "12"),
        ("Seat", "12C"),
    }
    assert fact.fields_grounded == len(fact.fields)


def test_personal_data_is_replaced_before_the_request_and_put_back_before_grounding() -> None:
    client = Echo()
    fact = NodeReader(client, masker=Masker()).read(node(PAX), Attempt())
    (request,) = client.seen
    assert not [value for value in PERSONAL if value in request.user + request.system + request.subtree]
    assert fact.pii_masked
    assert {field.value for field in fact.fields} >= set(PERSONAL)
    assert fact.fields_grounded == len(fact.fields)
    assert fact.extractor == "openai:echo"


def test_without_a_masker_nothing_is_said_to_be_masked() -> None:
    client = Echo()
    fact = NodeReader(client).read(node(PAX), Attempt())
    assert "Quackenbush" in client.seen[0].user
    assert not fact.pii_masked


def test_a_subtree_without_personal_data_is_sent_as_it_is_written() -> None:
    client, xml = Echo(), "<Leg><!-- kept --><Mileage  Unit='KM'>12</Mileage></Leg>"
    fact = NodeReader(client, masker=Masker()).read(node(xml), Attempt())
    assert client.seen[0].subtree == xml
    assert not fact.pii_masked


def test_a_subtree_is_read_once_unless_what_is_sent_says_something_else() -> None:
    client = Echo()
    masking = NodeReader(client, masker=Masker())
    masking.read(node(PAX), Attempt())
    masking.read(node("<Leg><Mileage>12</Mileage></Leg>"), Attempt())
    masking.read(node("<Leg><Mileage>12</Mileage></Leg>", {".": {"Mileage": 3}}), Attempt())
    personal, plain, piece = (request.evidence for request in client.seen)
    assert personal is None, "it was read before the values were hidden"
    assert plain is not None
    assert [leaf.value for leaf in plain.leaves] == ["12"]
    assert piece is None, "a shell's children are counted in the source"


def test_a_subtree_that_says_nothing_is_not_asked_about() -> None:
    client, attempt = Echo(), Attempt()
    fact = NodeReader(client).read(node("<Pax><Empty/><!-- x --></Pax>"), attempt)
    assert (client.seen, list(fact.fields), attempt.usage.requests) == ([], [], 0)


def test_a_value_that_is_not_there_is_kept_and_marked() -> None:
    answer = said(("PaxID", "P1"), ("Seat", "99Z"), ("Nowhere", "P1"))
    fact = NodeReader(Saying(answer)).read(node(PAX), Attempt())
    assert [(field.value, field.grounded) for field in fact.fields][:2] == [("P1", True), ("99Z", False)]
    assert fact.confidence == pytest.approx(0.9)


def test_values_that_no_database_takes_are_made_storable() -> None:
    fact = NodeReader(Saying(said(("PaxID", "P\x001")))).read(node(PAX), Attempt())
    (field,) = fact.fields
    field.value.encode()
    assert "\x00" not in field.value
    assert not field.grounded


@pytest.mark.parametrize("bad", ["\0", "\x1c", "\x85", "\ufffe"])
def test_what_text_hardly_holds_does_not_keep_a_fact_from_being_stored(bad: str) -> None:
    """In a value, in a path, in a name: the facts are written as JSON by whoever has read them."""
    answer = said(("PaxID", f"P1{bad}"), (f"PaxID{bad}", "P1"), ("PaxID", "P1"))
    record = NodeReader(Saying(answer)).read(node(PAX), Attempt()).to_record()
    fields = json.loads(str(record["fields"]).encode())
    assert [field["grounded"] for field in fields].count(True) == record["fields_grounded"] >= 1
    assert (len(fields), fields[2]) == (
        record["fields_total"], {"name": "PaxID", "value": "P1", "path": "PaxID", "grounded": True},
    )  # fmt: skip


def test_a_record_with_half_of_a_surrogate_pair_is_stored_as_well() -> None:
    free = NodeConfiguration(path="Pax", schema={"type": "object", "additionalProperties": True})
    answer = (
        r'{"record": {"id": "P1\ud800", "\ud800x": "P1"}, "confidence": 1, "proofs": '
        r'[{"pointer": "/id", "path": "PaxID\udfff"}, {"pointer": "/\ud800x", "path": "PaxID"}]}'
    )
    record = NodeReader(Saying(answer), configuration=free).read(node(PAX), Attempt()).to_record()
    fields = json.loads(str(record["fields"]).encode())
    assert [(field["value"], field["grounded"]) for field in fields] == [("P1?", False), ("P1", True)]


def test_an_answer_that_stays_unusable_is_kept_and_paid_for() -> None:
    attempt = Attempt()
    with pytest.raises(UnusableAnswer):
        NodeReader(Saying("I cannot help", "Sorry")).read(node(PAX), attempt)
    assert attempt.answers[-1] == "Sorry"
    assert attempt.usage.requests == 2


def test_nothing_is_asked_where_the_run_is_stopping() -> None:
    client = Echo()
    with pytest.raises(Interrupted):
        NodeReader(client).read(node(PAX), Attempt(stopping=True))
    assert client.seen == []


def test_a_subtree_that_cannot_be_read_alone_says_so() -> None:
    with pytest.raises(MalformedDocument, match="/List/Pax"):
        NodeReader(StructuralClient()).read(node("<Pax><a></Pax>"), Attempt())


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"pax_id": {"type": "string"}, "email_address": {"type": "string"}},
    "required": ["pax_id"],
}


def record(**values: str) -> str:
    paths = {"pax_id": "PaxID", "email_address": "EmailAddress"}
    proofs = [{"pointer": f"/{key}", "path": paths[key]} for key in values]
    return json.dumps({"record": {"email_address": None, **values}, "proofs": proofs, "confidence": 0.8})


def test_a_users_schema_gives_a_record_whose_values_are_proved() -> None:
    configuration = NodeConfiguration(path="Pax", schema=SCHEMA, instructions="Read the passenger.")
    client = Saying(record(pax_id="P1"))
    fact = NodeReader(client, configuration=configuration).read(node(PAX), Attempt())
    assert fact.record == {"pax_id": "P1"}
    assert [(value.name, value.path, value.grounded) for value in fact.fields] == [("/pax_id", "PaxID", True)]
    assert client.seen[0].system.endswith("Read the passenger.")


def test_hidden_values_are_put_back_in_records() -> None:
    client = Saying(record(pax_id="P1", email_address="[EMAIL_1]"))
    configuration = NodeConfiguration(path="Pax", schema=SCHEMA)
    fact = NodeReader(client, masker=Masker(), configuration=configuration).read(node(PAX), Attempt())
    assert "[EMAIL_1]" in client.seen[0].user
    assert fact.record is not None
    assert fact.record["email_address"] == "wilhelmina@example.org"
    assert fact.fields_grounded == len(fact.fields) == 2


def test_a_record_that_does_not_fit_its_schema_is_asked_for_again_and_then_refused() -> None:
    client = Saying(json.dumps({"record": {"other": 1}, "proofs": [], "confidence": 1}), record())
    with pytest.raises(UnusableAnswer, match="pax_id"):
        NodeReader(client, configuration=NodeConfiguration(path="Pax", schema=SCHEMA)).read(node(PAX), Attempt())
    assert "pax_id" in client.seen[1].history[-1][1]


def test_what_is_known_of_the_document_stands_before_the_subtree() -> None:
    client = Echo()
    NodeReader(client, document={"message": "OrderViewRS", "version": "19.2", "sender": None}).read(
        node(PAX), Attempt()
    )
    assert client.seen[0].user == f"message: OrderViewRS\nversion: 19.2\n\n{PAX}"


def test_bounds_reach_the_schema_and_the_request() -> None:
    client = Echo()
    bounds = AnswerBounds(max_tokens=99, max_fields=2, max_value_length=3, temperature=0.5)
    NodeReader(client, bounds=bounds).read(node(PAX), Attempt())
    (request,) = client.seen
    schema = json.dumps(request.schema.bounded_format)
    assert (request.max_output_tokens, request.temperature) == (99, 0.5)
    assert '"maxItems": 2' in schema
    assert '"maxLength": 3' in schema
