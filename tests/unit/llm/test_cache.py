"""Answers that are asked for once: what makes questions equal, and what those do who ask at the same moment."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import pytest
from pydantic import BaseModel

from thresher.core.errors import (
    AnswerTruncated,
    DatabaseUnavailable,
    PermanentLLMError,
    Postponed,
    TransientLLMError,
    UnusableAnswer,
)
from thresher.engine.control import Interrupted
from thresher.engine.work import JsonObject, Run, Usage
from thresher.llm.cache import CACHED_ANSWERS, AnswerCache, key_of
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.schema import ResponseSchema
from thresher.llm.structured import Answer, Rung


class Leg(BaseModel):
    code: str


class Stop(BaseModel):
    code: str
    miles: int


SCHEMA = ResponseSchema.of_model(Leg)
REQUEST = ModelRequest("S", "<A/>", "<A/>", SCHEMA, 100)
GOOD = json.dumps({"code": "AMS"})
PAID = Usage(requests=1, prompt_tokens=10, completion_tokens=5, cost_usd=0.25)


@dataclass
class Model:
    """Answers these replies in turn, the last one for good; each as soon as ``answering`` is set."""

    replies: list[str | Exception | ModelReply] = field(default_factory=lambda: [GOOD])
    asked: list[ModelRequest] = field(default_factory=list)
    answering: threading.Event = field(default_factory=threading.Event)
    provider = "openai"
    model = "m"
    leaves_machine = True
    fallbacks = ()
    resource = None

    def __post_init__(self) -> None:
        self.answering.set()
        self.being_asked = threading.Event()

    def complete(self, request: ModelRequest) -> ModelReply:
        number = len(self.asked)
        self.asked.append(request)
        self.being_asked.set()
        assert self.answering.wait(10)
        reply = self.replies[min(number, len(self.replies) - 1)]
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, ModelReply) else ModelReply(reply, "stop", "m", PAID)

    def check(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Attempt:
    usage: Usage = field(default_factory=Usage)
    answer: str | None = None
    attached: list[JsonObject] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def record_usage(self, usage: Usage) -> None:
        self.usage += usage

    def keep_answer(self, raw_answer: str) -> None:
        self.answer = raw_answer

    def attach(self, kind: str, row: JsonObject) -> None:
        assert kind == CACHED_ANSWERS
        self.attached.append(row)

    def permit(self, resource: str) -> AbstractContextManager[None]:
        assert resource
        return nullcontext()

    def about_to_wait(self) -> None:
        self.waiting.set()

    def raise_if_stopping(self) -> None:
        if self.stopping.is_set():
            raise Interrupted("stopping")


class Table:
    """A store in memory that counts how often it is asked."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.looked_up: list[str] = []

    def holds_any(self, provider: str, model: str) -> bool:
        assert (provider, model) == ("openai", "m")
        return bool(self.answers)

    def find(self, key: str) -> str | None:
        self.looked_up.append(key)
        return self.answers.get(key)

    def write(self, attempt: Attempt) -> None:
        """What the end of an attempt does."""
        self.answers.update({str(row["key"]): str(row["answer"]) for row in attempt.attached if row["answer"]})


def ask(cache: AnswerCache, model: Model, attempt: Attempt, request: ModelRequest = REQUEST) -> Answer[Leg]:
    return cache.ask(model, request, Leg.model_validate_json, attempt)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


# -- the key ------------------------------------------------------------------------------------------------


@dataclass
class Named(Model):
    provider: str = "openai"
    model: str = "m"


def test_equal_questions_have_one_key_also_in_another_process() -> None:
    same = ModelRequest("S", "<A/>", "<A/>", ResponseSchema.of_model(Leg), 100)
    assert key_of(Model(), REQUEST) == key_of(Model(), same)
    assert len(key_of(Model(), REQUEST)) == 64


@pytest.mark.parametrize(
    "other",
    [
        {"system": "T"},
        {"user": "<B/>", "subtree": "<B/>"},
        {"user": "version: 19.2\n\n<A/>"},
        {"schema": ResponseSchema.of_model(Stop)},
        {"max_output_tokens": 101},
        {"temperature": 0.5},
        {"examples": (("Q", "A"),)},
        {"history": (("assistant", "no"), ("user", "again"))},
    ],
)
def test_whatever_an_answer_depends_on_is_part_of_the_key(other: dict[str, object]) -> None:
    assert key_of(Model(), replace(REQUEST, **other)) != key_of(Model(), REQUEST)  # type: ignore[arg-type]


def test_provider_and_model_are_part_of_the_key() -> None:
    keys = {key_of(Named(provider=one, model=two), REQUEST) for one in ("openai", "azure") for two in ("m", "n")}
    assert len(keys) == 4


def test_no_two_questions_are_spelled_alike() -> None:
    """Where one part ends and the next begins is part of the key."""
    questions = [
        replace(REQUEST, system="AB", user="C"),
        replace(REQUEST, system="A", user="BC"),
        replace(REQUEST, examples=(("A", "B"),)),
        replace(REQUEST, examples=(("AB", ""),)),
        replace(REQUEST, examples=(("A", ""), ("B", ""))),
        replace(REQUEST, history=(("user", "A"),), user=""),
        replace(REQUEST, user="userA"),
    ]
    assert len({key_of(Model(), question) for question in questions}) == len(questions)


# -- one after the other ------------------------------------------------------------------------------------


def test_what_was_answered_is_not_asked_again_and_costs_nothing() -> None:
    cache, model, first, second = AnswerCache(Table()), Model(), Attempt(), Attempt()
    assert ask(cache, model, first).value == ask(cache, model, second).value == Leg(code="AMS")
    assert len(model.asked) == 1
    assert first.usage == PAID
    assert second.usage == Usage(cache_hits=1)


def test_a_new_process_finds_it_in_the_store() -> None:
    table, attempt, later = Table(), Attempt(), Attempt()
    ask(AnswerCache(table), Model(), attempt)
    table.write(attempt)
    model = Model()
    assert ask(AnswerCache(table), model, later).value == Leg(code="AMS")
    assert (model.asked, later.usage) == ([], Usage(cache_hits=1))
    assert later.attached == [{"key": key_of(model, REQUEST), "answer": None, "uses": 1}]


def test_what_is_kept_is_the_answer_and_its_price_not_the_question() -> None:
    attempt = Attempt()
    ask(AnswerCache(Table()), Model(), attempt, replace(REQUEST, user="<Secret/>", subtree="<Secret/>"))
    (row,) = attempt.attached
    assert "Secret" not in json.dumps(row)
    assert {name: row[name] for name in ("answer", "prompt_tokens", "completion_tokens", "cost_usd", "uses")} == {
        "answer": GOOD, "prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.25, "uses": 0,
    }  # fmt: skip


def test_while_the_store_holds_nothing_of_a_model_it_is_not_asked() -> None:
    table, model = Table(), Model()
    cache = AnswerCache(table)
    for number in range(5):
        ask(cache, model, Attempt(), replace(REQUEST, user=f"<A n='{number}'/>"))
    assert (table.looked_up, len(model.asked)) == ([], 5)


def test_an_answer_of_this_process_is_looked_up_when_memory_has_forgotten_it() -> None:
    large = json.dumps({"code": "x" * 700_000})
    table, model = Table(), Model([GOOD, large])
    cache = AnswerCache(table)
    for number in range(5):
        attempt = Attempt()
        ask(cache, model, attempt, replace(REQUEST, user=f"<A n='{number}'/>"))
        table.write(attempt)
    assert ask(cache, model, Attempt(), replace(REQUEST, user="<A n='0'/>")).value.code == "AMS"
    assert len(model.asked) == 5


def test_mended_and_re_asked_answers_are_kept_as_the_model_wrote_them() -> None:
    fenced = f"```json\n{GOOD}\n```"
    cache, attempt, later = AnswerCache(Table()), Attempt(), Attempt()
    model = Model(["no json", fenced])
    assert ask(cache, model, attempt).rung is Rung.RE_ASKED
    assert [row["answer"] for row in attempt.attached] == [fenced]
    assert attempt.attached[0]["prompt_tokens"] == 20, "both requests were its price"
    again = ask(cache, model, later)
    assert (again.rung, again.value, len(model.asked)) == (Rung.REPAIRED, Leg(code="AMS"), 2)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (ModelReply("", "stop", "m", PAID, refusal="I will not"), PermanentLLMError),
        (ModelReply('{"code": "A', "length", "m", PAID), AnswerTruncated),
        ("never json", UnusableAnswer),
        (TransientLLMError("503"), TransientLLMError),
    ],
)
def test_refusals_cut_and_unusable_answers_are_not_kept(reply: str | Exception | ModelReply, error: type) -> None:
    cache, model, attempt = AnswerCache(Table()), Model([reply]), Attempt()
    for requests in (1, 2):
        with pytest.raises(error):
            ask(cache, model, attempt)
        assert len(model.asked) == requests * (2 if error is UnusableAnswer else 1)
    assert attempt.attached == []


def test_an_answer_that_no_longer_fits_is_asked_for_anew() -> None:
    model, attempt = Model(), Attempt()
    table = Table(**{key_of(model, REQUEST): '{"miles": 3}'})
    assert ask(AnswerCache(table), model, attempt).value == Leg(code="AMS")
    assert (len(model.asked), attempt.usage) == (1, PAID)
    assert [row["answer"] for row in attempt.attached] == [GOOD]


def test_an_answer_that_a_database_would_change_is_not_stored() -> None:
    attempt = Attempt()
    cache, model = AnswerCache(Table()), Model([json.dumps({"code": "A"}) + "\x00"])
    assert ask(cache, model, attempt).value == Leg(code="A")
    assert attempt.attached == []


def test_a_store_that_is_away_makes_the_item_wait_and_pays_nothing() -> None:
    class Away(Table):
        def find(self, key: str) -> str | None:
            raise DatabaseUnavailable(f"the server is starting, nothing is known of {key}")

    model, attempt = Model(), Attempt()
    with pytest.raises(Postponed, match="starting"):
        ask(AnswerCache(Away(other="{}")), model, attempt)
    assert (model.asked, attempt.usage) == ([], Usage())


# -- at the same moment -------------------------------------------------------------------------------------


def test_who_asks_the_same_at_the_same_moment_waits_for_the_answer(pool: ThreadPoolExecutor) -> None:
    cache, model = AnswerCache(Table()), Model()
    model.answering.clear()
    attempts = [Attempt() for _ in range(16)]
    asking = [pool.submit(ask, cache, model, attempt) for attempt in attempts]
    assert model.being_asked.wait(10)
    model.answering.set()
    assert {asked.result(10).value.code for asked in asking} == {"AMS"}
    assert len(model.asked) == 1
    assert sum(attempt.usage.requests for attempt in attempts) == 1
    assert sum(attempt.usage.cache_hits for attempt in attempts) == 15


def test_who_waits_for_the_answer_of_another_says_so_before(pool: ThreadPoolExecutor) -> None:
    """What its worker has left to be written does not wait with it, and others work meanwhile."""
    cache, model, first, second = AnswerCache(Table()), Model(), Attempt(), Attempt()
    model.answering.clear()
    asking = pool.submit(ask, cache, model, first)
    assert model.being_asked.wait(10)
    waiting = pool.submit(ask, cache, model, second)
    assert second.waiting.wait(10)
    model.answering.set()
    assert asking.result(10).value == waiting.result(10).value
    assert not first.waiting.is_set()


def test_different_questions_do_not_wait_for_each_other(pool: ThreadPoolExecutor) -> None:
    cache, slow, quick = AnswerCache(Table()), Model(), Model()
    slow.answering.clear()
    waiting = pool.submit(ask, cache, slow, Attempt())
    assert slow.being_asked.wait(10)
    assert ask(cache, quick, Attempt(), replace(REQUEST, user="<B/>")).value.code == "AMS"
    slow.answering.set()
    assert waiting.result(10).value.code == "AMS"


def test_where_the_first_fails_one_of_those_who_wait_asks(pool: ThreadPoolExecutor) -> None:
    cache, model = AnswerCache(Table()), Model([TransientLLMError("500"), TransientLLMError("500"), GOOD])
    model.answering.clear()
    asking = [pool.submit(ask, cache, model, Attempt()) for _ in range(16)]
    assert model.being_asked.wait(10)
    model.answering.set()
    failures = [asked.exception(10) for asked in asking]
    assert sum(isinstance(failure, TransientLLMError) for failure in failures) == 2
    assert failures.count(None) == 14
    assert len(model.asked) == 3


def test_a_wait_ends_where_the_run_is_being_stopped(pool: ThreadPoolExecutor) -> None:
    cache, model, waiting = AnswerCache(Table()), Model(), Attempt()
    model.answering.clear()
    first = pool.submit(ask, cache, model, Attempt())
    assert model.being_asked.wait(10)
    second = pool.submit(ask, cache, model, waiting)
    waiting.stopping.set()
    assert isinstance(second.exception(5), Interrupted)
    assert not first.done()
    model.answering.set()
    assert first.result(10).value.code == "AMS"
    assert waiting.usage == Usage()


def test_nothing_is_left_behind_by_questions_that_are_over(pool: ThreadPoolExecutor) -> None:
    cache, model = AnswerCache(Table()), Model([PermanentLLMError("no"), GOOD])
    for asked in [pool.submit(ask, cache, model, Attempt()) for _ in range(16)]:
        asked.exception(10)
    assert not cache._flights._by_key
