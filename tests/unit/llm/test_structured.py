"""The answer ladder over a client that gives prepared replies."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from pydantic import BaseModel, ConfigDict, Field

from thresher.core.errors import AnswerTruncated, PermanentLLMError, TransientLLMError, UnusableAnswer
from thresher.engine.work import Run, Usage
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.schema import ResponseSchema
from thresher.llm.structured import AnswerLadder, Rung


class FieldAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    value: str
    path: str


class NodeAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    node_type: str
    fields: list[FieldAnswer]
    confidence: float = Field(ge=0, le=1)


SCHEMA = ResponseSchema.of_model(NodeAnswer)
REQUEST = ModelRequest("S", "<A/>", "<A/>", SCHEMA, 100)
FIELD = {"name": "Code", "value": "AMS", "path": "Code"}
GOOD = {"node_type": "A", "fields": [FIELD], "confidence": 0.9}
TEXT = json.dumps(GOOD)


@dataclass
class Prepared:
    """A client whose replies, and failures, are known beforehand."""

    replies: list[str | ModelReply | Exception]
    asked: list[ModelRequest] = field(default_factory=list)
    provider = "prepared"
    model = "m"
    leaves_machine = False
    resource = None

    def complete(self, request: ModelRequest) -> ModelReply:
        self.asked.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, ModelReply) else said(reply)

    def check(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Context:
    usage: Usage = field(default_factory=Usage)
    kept: str | None = None
    stop_after: int | None = None

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def record_usage(self, usage: Usage) -> None:
        self.usage += usage

    def keep_answer(self, raw_answer: str) -> None:
        self.kept = raw_answer

    def about_to_wait(self) -> None: ...

    def raise_if_stopping(self) -> None:
        if self.stop_after is not None and self.usage.requests >= self.stop_after:
            raise KeyboardInterrupt


def said(text: str, finish_reason: str = "stop", refusal: str | None = None) -> ModelReply:
    return ModelReply(text, finish_reason, "m-1", Usage(1, 10, 5, 0, 0.5), refusal=refusal)


def ask(*replies: str | ModelReply | Exception, context: Context | None = None):  # noqa: ANN201  # Answer[NodeAnswer]
    client = Prepared(list(replies))
    answer = AnswerLadder().ask(client, REQUEST, NodeAnswer.model_validate_json, context or Context())
    return answer, client


def test_a_good_answer_is_taken_as_it_is() -> None:
    answer, client = ask(TEXT)
    assert (answer.value.fields[0].value, answer.rung, answer.text, answer.model) == ("AMS", Rung.STRICT, TEXT, "m-1")
    assert len(client.asked) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```",
        f"Here you are:\n```json\n{TEXT}\n```\nAnything else?",
        f"Here is what I found [see below]: {TEXT} I hope this helps {{smile}}.",
        f"\ufeff{TEXT}",
        f"[{TEXT}]",
        TEXT.replace("]", ",]").replace("}", ",}"),
        TEXT.replace("0.9", '"high"'),
        TEXT.replace("0.9", '"90 %"'),
        TEXT.replace(f"[{json.dumps(FIELD)}]", json.dumps(FIELD)),
        TEXT.replace('"', "'"),
        TEXT.replace('"confidence"', "confidence"),
        TEXT.replace('"confidence"', '"Confidence"').replace("node_type", "nodeType"),
        TEXT[:-1] + ', "note": "all read"}',
        TEXT.replace(", ", " ,\n// a comment\n"),
    ],
)
def test_an_answer_wrong_in_form_only_is_repaired_without_asking_again(text: str) -> None:
    answer, client = ask(text)
    assert (answer.rung, answer.value.fields) == (Rung.REPAIRED, [FieldAnswer(**FIELD)])
    assert answer.value.confidence == 0.9
    assert answer.text == text
    assert len(client.asked) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "I could not find any node in this text.",
        "The code is AMS, the path is Code and my confidence is high.",
        "null",
        '"AMS"',
        TEXT[:-1],
        TEXT[:-10],
        TEXT[:30],
        f"{TEXT}\n{TEXT.replace('AMS', 'CDG')}",
        TEXT.replace("0.9", "NaN"),
        TEXT.replace("0.9", '"surely"'),
        TEXT.replace('"AMS"', ""),
        TEXT.replace("0.9", "7"),
        "[" * 100_000,
        '{"a":' * 100_000,
        '"\\"' * 50_000,
        "```" * 50_000,
    ],
)
def test_what_cannot_be_repaired_is_asked_again_once_with_the_problem(text: str) -> None:
    answer, client = ask(text, TEXT)
    assert (answer.rung, answer.value.fields[0].value) == (Rung.RE_ASKED, "AMS")
    assert answer.usage.requests == 2
    (role, first), (other, problem) = client.asked[1].history
    assert (role, other) == ("assistant", "user")
    assert first
    assert problem.startswith("Your answer does not fit: ")


def test_the_re_ask_names_the_place_but_not_the_value() -> None:
    _, client = ask(TEXT.replace("0.9", "7777"), TEXT)
    problem = client.asked[1].history[1][1]
    assert "confidence: " in problem
    assert "7777" not in problem


def test_two_unusable_answers_end_visibly_with_the_raw_answer_and_all_usage() -> None:
    context = Context()
    with pytest.raises(UnusableAnswer, match="asked twice"):
        ask("no idea", "still none", context=context)
    assert context.kept == "still none"
    assert (context.usage.requests, context.usage.prompt_tokens, context.usage.cost_usd) == (2, 20, 1.0)


def test_an_answer_cut_by_its_length_is_not_repaired_and_not_asked_again() -> None:
    context = Context()
    with pytest.raises(AnswerTruncated, match="100 tokens"):
        ask(said(TEXT[:-1] + "}]}", "length"), context=context)
    assert context.usage.requests == 1
    assert context.kept is not None


def test_an_answer_that_is_whole_at_the_very_limit_counts() -> None:
    answer, _ = ask(said(TEXT + "   ", "length"))
    assert answer.rung is Rung.STRICT


def test_a_cut_answer_to_the_re_ask_is_truncated_too() -> None:
    with pytest.raises(AnswerTruncated):
        ask("no idea", said("{", "length"))


@pytest.mark.parametrize("reply", [said("", refusal="I cannot"), said("", "content_filter")])
def test_a_refusal_is_permanent_and_paid(reply: ModelReply) -> None:
    context = Context()
    with pytest.raises(PermanentLLMError):
        ask(reply, context=context)
    assert context.usage.requests == 1


@pytest.mark.parametrize("before", [[], ["no idea"]])
def test_a_failed_request_is_counted_and_its_error_comes_through(before: list[str]) -> None:
    context = Context()
    with pytest.raises(TransientLLMError):
        ask(*before, TransientLLMError("down"), context=context)
    assert context.usage.requests == len(before) + 1


def test_nothing_is_asked_while_the_run_stops() -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(TEXT, context=Context(stop_after=0))
    context = Context(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        ask("no idea", TEXT, context=context)
    assert context.usage.requests == 1


def test_a_text_is_not_taken_for_a_number_and_a_number_keeps_its_written_form() -> None:
    answer, _ = ask(TEXT.replace('"AMS"', "10.50"))
    assert answer.value.fields[0].value == "10.50"


def test_nul_characters_which_no_database_takes_are_removed() -> None:
    class Any_(BaseModel):  # noqa: N801  # local
        value: str

    def validate(text: str) -> Any_:
        value = Any_.model_validate_json(text)
        if "\0" in value.value:
            raise ValueError("NUL")
        return value

    client = Prepared(['{"value": "a\\u0000b"}'])
    request = ModelRequest("S", "U", "U", ResponseSchema.of_model(Any_), 10)
    assert AnswerLadder().ask(client, request, validate, Context()).value.value == "ab"
