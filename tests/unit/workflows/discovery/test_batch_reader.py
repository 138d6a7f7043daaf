"""Several subtrees by one request: packing, count, identity, grounding of each against its own subtree."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from thresher.core.errors import AnswerTruncated, NotAnswered, UnusableAnswer
from thresher.engine.work import Claim, Run, Usage
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.masking import Masker
from thresher.workflows.discovery.batch_reader import ANOTHERS, LEFT_OUT, TWICE, UNFIT, BatchLimits, BatchReader
from thresher.workflows.discovery.configurations import NodeConfiguration
from thresher.workflows.discovery.node_facts import NodeFact
from thresher.workflows.discovery.node_reader import AnswerBounds, Node, NodeReader


class Attempt:
    """An attempt that keeps what it is told."""

    run: Run

    def __init__(self) -> None:
        self.usage, self.answers = Usage(), list[str]()

    def record_usage(self, usage: Usage) -> None:
        self.usage += usage

    def keep_answer(self, raw_answer: str) -> None:
        self.answers.append(raw_answer)

    def permit(self, _resource: str, _tokens: float = 0.0) -> AbstractContextManager[None]:
        return nullcontext()

    def about_to_wait(self) -> None: ...

    def raise_if_stopping(self) -> None:
        pass


class Saying:
    """A model that answers these texts, one after the other."""

    provider, model, resource = "openai", "saying", None
    leaves_machine = takes_batches = True
    fallbacks = ()

    def __init__(self, *texts: str, finish_reason: str = "stop") -> None:
        self.seen: list[ModelRequest] = []
        self._texts, self._finish_reason = list(texts), finish_reason

    def complete(self, request: ModelRequest) -> ModelReply:
        self.seen.append(request)
        return ModelReply(self._texts.pop(0), self._finish_reason, "saying", Usage(1, 100, 50))


def seat(number: int) -> Node:
    return Node(f"<Seat><Row>{number}</Row><Deck>A{number}</Deck></Seat>", f"/List/Seat[{number}]", "Seat", number)


def entry(identity: str, *values: tuple[str, str]) -> dict[str, Any]:
    fields = [{"name": path, "value": value, "path": path} for path, value in values]
    return {
        "id": identity, "node_type": "Seat", "node_ordinal": 1, "fields": fields, "references": [], "confidence": 1,
    }  # fmt: skip


def true_entry(number: int, identity: str | None = None) -> dict[str, Any]:
    return entry(identity or f"n{number}", ("Row", str(number)), ("Deck", f"A{number}"))


def said(*entries: dict[str, Any]) -> str:
    return json.dumps({"answers": entries})


def read(
    client: Saying, count: int, *, reader: NodeReader | None = None, nodes: list[Node] | None = None
) -> tuple[list[NodeFact | Exception], list[Attempt]]:
    nodes = nodes or [seat(number) for number in range(1, count + 1)]
    attempts = [Attempt() for _ in nodes]
    reader = reader or NodeReader(client)  # type: ignore[arg-type]
    return BatchReader(reader, BatchLimits()).read(nodes, attempts), attempts  # type: ignore[arg-type]


def reasons(results: list[NodeFact | Exception]) -> list[str | None]:
    return [str(result) if isinstance(result, Exception) else None for result in results]


def test_every_subtree_gets_the_answer_with_its_id_in_whatever_order() -> None:
    client = Saying(said(true_entry(2), true_entry(3), true_entry(1)))
    results, attempts = read(client, 3)
    assert reasons(results) == [None, None, None]
    facts = [result for result in results if isinstance(result, NodeFact)]
    assert [[field.value for field in fact.fields] for fact in facts] == [["1", "A1"], ["2", "A2"], ["3", "A3"]]
    assert all(fact.fields_grounded == 2 for fact in facts)
    assert [fact.section_path for fact in facts] == [f"/List/Seat[{number}]" for number in (1, 2, 3)]
    assert len(client.seen) == 1
    total = sum((attempt.usage for attempt in attempts), Usage())
    assert (total.requests, total.prompt_tokens, total.completion_tokens) == (1, 100, 50)


def test_what_is_left_out_or_unknown_is_noticed() -> None:
    results, _ = read(Saying(said(true_entry(1), true_entry(2, "n9"))), 3)
    assert reasons(results) == [None, LEFT_OUT, LEFT_OUT]
    assert all(isinstance(result, NotAnswered) for result in results[1:])


def test_the_same_entry_twice_counts_once_and_two_different_ones_not_at_all() -> None:
    doubled = [true_entry(1), true_entry(1), true_entry(2), entry("n2", ("Row", "2"))]
    results, _ = read(Saying(said(*doubled)), 2)
    assert reasons(results) == [None, TWICE]


def test_entries_under_each_other_s_id_are_noticed() -> None:
    results, _ = read(Saying(said(true_entry(1, "n2"), true_entry(2, "n1"), true_entry(3))), 3)
    assert reasons(results) == [ANOTHERS, ANOTHERS, None]


def test_a_wrong_value_that_is_nobody_s_is_kept_and_marked_as_in_any_mode() -> None:
    results, _ = read(Saying(said(entry("n1", ("Row", "77"), ("Deck", "A1")), true_entry(2))), 2)
    (first, _second) = results
    assert isinstance(first, NodeFact)
    assert [field.grounded for field in first.fields] == [False, True]


def test_an_entry_that_does_not_fit_costs_the_others_nothing() -> None:
    broken = {**true_entry(1), "fields": "none"}
    results, _ = read(Saying(said(broken, true_entry(2))), 2)
    assert reasons(results) == [f"{UNFIT}: fields", None]


def test_of_an_answer_that_was_cut_the_whole_entries_are_used() -> None:
    text = said(true_entry(1), true_entry(2), true_entry(3))
    results, _ = read(Saying(text[: text.rindex('"references"')], finish_reason="length"), 3)
    assert reasons(results) == [None, None, LEFT_OUT]


def test_an_answer_cut_in_its_first_entry_is_truncated() -> None:
    with pytest.raises(AnswerTruncated):
        read(Saying(said(true_entry(1), true_entry(2))[:60], finish_reason="length"), 2)


def test_prose_is_not_asked_for_again_as_it_is() -> None:
    client = Saying("I would rather not.")
    with pytest.raises(UnusableAnswer):
        read(client, 2)
    assert len(client.seen) == 1


def test_a_bare_list_in_a_fence_is_mended() -> None:
    results, _ = read(Saying(f"```json\n{json.dumps([true_entry(1), true_entry(2)])}\n```"), 2)
    assert reasons(results) == [None, None]


def test_each_subtree_is_masked_by_pseudonyms_of_its_own() -> None:
    nodes = [
        Node(f"<Pax><EmailAddress>{name}@example.org</EmailAddress></Pax>", f"/Pax[{place}]", "Pax", place)
        for place, name in ((1, "ada"), (2, "grace"))
    ]
    entries = [entry(f"n{place}", ("EmailAddress", "[EMAIL_1]")) for place in (1, 2)]
    client = Saying(said(*entries))
    results, _ = read(client, 2, nodes=nodes, reader=NodeReader(client, masker=Masker()))  # type: ignore[arg-type]
    assert "@example.org" not in client.seen[0].user
    values = [result.fields[0].value for result in results if isinstance(result, NodeFact)]
    assert values == ["ada@example.org", "grace@example.org"]


def test_a_subtree_that_says_nothing_is_not_sent() -> None:
    client = Saying(said(true_entry(1)))
    results, _ = read(client, 2, nodes=[Node("<Seat/>", "/Seat[1]", "Seat", 1), seat(1)])
    assert reasons(results) == [None, None]
    assert "<Seat/>" not in client.seen[0].user


def test_records_of_a_user_s_schema_are_validated_one_by_one() -> None:
    schema = {"type": "object", "properties": {"row": {"type": "integer"}}, "required": ["row"]}
    configuration = NodeConfiguration(path="Seat", schema=schema)
    records = [
        {"id": f"n{number}", "record": {"row": row}, "proofs": [{"pointer": "/row", "path": "Row"}], "confidence": 1}
        for number, row in ((1, 1), (2, "second"))
    ]
    client = Saying(said(*records))
    reader = NodeReader(client, configuration=configuration)  # type: ignore[arg-type]
    results, _ = read(client, 2, reader=reader)
    assert reasons(results) == [None, f"{UNFIT}: record"]
    assert isinstance(results[0], NodeFact)
    assert results[0].record == {"row": 1}


def test_prompt_and_schema_are_the_same_objects_for_all_requests() -> None:
    client = Saying(said(true_entry(1), true_entry(2)), said(true_entry(1), true_entry(2)))
    reader = BatchReader(NodeReader(client), BatchLimits())  # type: ignore[arg-type]
    for _ in range(2):
        reader.read([seat(1), seat(2)], [Attempt(), Attempt()])  # type: ignore[list-item]
    first, second = client.seen
    assert first.schema is second.schema
    assert first.system is second.system
    assert first.schema.strict


def claim(number: int, xml: str, failures: int = 0) -> Claim:
    return Claim(number, "r", "discovery", str(number), (number,), "subtree", xml.encode(), {}, 1, failures, "me")


def sizes(claims: list[Claim], limits: BatchLimits, max_tokens: int = 4096) -> list[int]:
    reader = NodeReader(Saying(), bounds=AnswerBounds(max_tokens=max_tokens))  # type: ignore[arg-type]
    return [len(group) for group in BatchReader(reader, limits).packed(claims)]


def test_packing_keeps_to_the_number_of_items() -> None:
    assert sizes([claim(number, seat(number).xml) for number in range(10)], BatchLimits(max_items=4)) == [4, 4, 2]


def test_packing_keeps_to_the_tokens_of_prompt_and_answers() -> None:
    claims = [claim(number, seat(number).xml) for number in range(40)]
    by_prompt = sizes(claims, BatchLimits(max_items=100, max_tokens=2_500))
    by_answer = sizes(claims, BatchLimits(max_items=100, max_tokens=100_000), max_tokens=1_000)
    assert 1 < max(by_prompt) < 40
    assert 1 < max(by_answer) < 40
    assert sum(by_prompt) == sum(by_answer) == 40


def test_a_large_subtree_goes_alone_and_parts_nobody() -> None:
    large = f"<List>{'<a>1</a>' * 400}</List>"
    claims = [claim(0, seat(0).xml), claim(1, large), claim(2, seat(2).xml)]
    reader = BatchReader(NodeReader(Saying()), BatchLimits())  # type: ignore[arg-type]
    assert [[one.item_id for one in group] for group in reader.packed(claims)] == [[0, 2], [1]]


def test_who_has_failed_in_company_goes_in_smaller_groups_and_then_alone() -> None:
    once = [claim(number, seat(number).xml, failures=1) for number in range(10)]
    twice = [claim(number, seat(number).xml, failures=3) for number in range(3)]
    assert sizes(once, BatchLimits(max_items=20)) == [5, 5]
    assert sizes(twice, BatchLimits(max_items=20)) == [1, 1, 1]
