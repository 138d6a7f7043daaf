"""Requests about several subtrees: an entry for each, counted one by one, with mistakes of their own."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from thresher.llm.client import ModelRequest
from thresher.llm.providers.dialect import Dialect, SchemaMode
from thresher.llm.schema import RecordSchema, ResponseSchema
from thresher.testing.model_server.answers import Answer, Answers, spoiled
from thresher.testing.model_server.faults import Draw, Lottery
from thresher.testing.model_server.options import Faults, Options
from thresher.testing.model_server.statistics import Statistics
from thresher.workflows.discovery.answers import NodeAnswer

SEATS = [f"<Seat><Row>{number}</Row></Seat>" for number in (1, 2, 3)]
SEVERAL = ResponseSchema.of_model(NodeAnswer).of_several()


def body(subtrees: list[str], schema: ResponseSchema = SEVERAL) -> bytes:
    user = "\n".join(
        f'<subtree id="n{place}">\n{subtree}\n</subtree>' for place, subtree in enumerate(subtrees, start=1)
    )
    request = ModelRequest("Read them.", f"message: X\n\n{user}", user, schema, 100)
    opening, closing = Dialect(SchemaMode.STRICT, "max_tokens").envelope("m", request)
    return b"".join((opening, json.dumps(user).encode(), closing, b"]}"))


def answered(options: Options, subtrees: list[str], schema: ResponseSchema = SEVERAL) -> Answer:
    return Answers(options, Lottery(options)).of(body(subtrees, schema))


def entries(content: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(content)["answers"]
    return found


def sent(answer: Answer, draw: Draw) -> list[dict[str, Any]]:
    return entries(json.loads(spoiled(answer, draw))["choices"][0]["message"]["content"])


def test_each_subtree_has_an_entry_with_its_id_and_its_own_values() -> None:
    found = entries(answered(Options(), SEATS).content)
    assert [entry["id"] for entry in found] == ["n1", "n2", "n3"]
    assert [entry["fields"][0]["value"] for entry in found] == ["1", "2", "3"]
    assert [entry["fields"][0]["path"] for entry in found] == ["Row"] * 3
    for entry in found:
        NodeAnswer.model_validate(entry)


def test_records_with_references_of_their_own_are_filled_too() -> None:
    schema = {
        "type": "object",
        "properties": {"row": {"$ref": "#/$defs/number"}},
        "required": ["row"],
        "$defs": {"number": {"type": "integer"}},
    }
    found = entries(answered(Options(), SEATS, RecordSchema.of("seat", schema).response.of_several()).content)
    assert [entry["record"] for entry in found] == [{"row": 1}, {"row": 2}, {"row": 3}]


def test_a_request_is_counted_for_each_subtree_it_holds_and_once_in_all() -> None:
    statistics = Statistics()
    answer = answered(Options(), SEATS)
    records = statistics.arrived(answer)
    statistics.paid(records, answer)
    statistics.answered(records, answer, [0, 2])
    shown = statistics.report()
    counts = [shown["subtrees"][sha256(seat.encode()).hexdigest()] for seat in SEATS]
    assert [(one["requests"], one["paid"], one["answered"]) for one in counts] == [(1, 1, 1), (1, 1, 0), (1, 1, 1)]
    assert (shown["paid"], shown["answered"]) == (1, 1)


def test_entries_can_be_forgotten_and_swapped() -> None:
    answer = answered(Options(), SEATS)
    found = sent(answer, Draw(order=((0, 1), (1, 0))))
    assert [(entry["id"], entry["fields"][0]["value"]) for entry in found] == [("n2", "1"), ("n1", "2")]


def test_what_is_forgotten_and_swapped_is_drawn_by_the_seed() -> None:
    lottery = Lottery(Options(faults=Faults(forget=0.5, swap=1.0), seed=3))
    draws = [lottery.draw("key", count, 10) for count in (1, 2)]
    assert draws[0] == lottery.draw("key", 1, 10)
    assert draws[0].order != draws[1].order
    for draw in draws:
        assert draw.order is not None
        assert 0 < len(draw.order) < 10
    assert lottery.draw("key", 1).order is None, "one subtree has no entries to mix up"


def test_lies_are_the_same_as_where_the_subtree_is_asked_about_alone() -> None:
    options = Options(faults=Faults(lie=0.5), seed=1)
    together = answered(options, SEATS)
    for number, seat in enumerate(SEATS):
        (alone,) = answered(options, [seat]).parts
        assert together.parts[number].lies == alone.lies
