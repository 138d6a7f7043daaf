"""Estimates: from bytes alone, and from what a model took before."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from thresher.engine.work import ItemSpec
from thresher.llm.client import ModelRequest
from thresher.llm.prices import Price
from thresher.llm.schema import ResponseSchema
from thresher.llm.spending import prompt_bytes, worst_case
from thresher.persistence.repositories.costs import Experience
from thresher.workflows.discovery.answers import NodeAnswer
from thresher.workflows.discovery.estimate import KnownAnswers, Pace, PlanSize, Range, estimate, measure

SCHEMA = ResponseSchema.of_model(NodeAnswer)
PRICE = Price(input=1.0, cached_input=0.5, output=4.0)
SIZE = PlanSize(nodes=10, requests=10, prompt_bytes=35_000, answer_bytes=3_500)
LEARNED = Experience(
    nodes=50, tokens_per_byte=0.25, requests_per_node=1.2, answer_tokens_per_node=200, seconds_per_node=3
)


def asked(text: str, most: int = 4096) -> ModelRequest:
    return ModelRequest("system", text, text, SCHEMA, most)


def planned(count: int, distinct: int) -> Iterator[tuple[ItemSpec, ModelRequest]]:
    for number in range(count):
        yield ItemSpec(f"/l/i[{number}]", (number,)), asked(f"<i><a>{number % distinct}</a></i>")


def test_the_first_estimate_is_made_from_bytes() -> None:
    made = estimate(SIZE, None, PRICE, Pace(4))
    assert made.requests == Range(10, 10, 10)
    assert made.prompt_tokens.expected == pytest.approx(10_000)
    assert made.completion_tokens == Range(500, 1_000, 2_000)
    assert made.cost_usd is not None
    assert made.cost_usd.expected == pytest.approx((10_000 + 4 * 1_000) / 1_000_000)
    assert made.seconds is None


def test_later_estimates_are_made_from_what_the_model_took() -> None:
    made = estimate(SIZE, LEARNED, PRICE, Pace(4))
    assert made.requests.expected == 12
    assert made.prompt_tokens.expected == pytest.approx(8_750)
    assert made.completion_tokens == Range(1_000, 2_000, 2_500)
    assert made.seconds is not None
    assert made.seconds.expected == pytest.approx(10 * 3 / 4)


def test_a_limit_that_is_set_bounds_the_time_and_an_unknown_price_the_cost() -> None:
    made = estimate(SIZE, LEARNED, None, Pace(4, requests_per_minute=6))
    assert made.cost_usd is None
    assert made.seconds == Range(120, 120, 120)
    by_tokens = estimate(SIZE, None, None, Pace(4, tokens_per_minute=1_100))
    assert by_tokens.seconds is not None
    assert by_tokens.seconds.expected == pytest.approx(600)


def test_nodes_are_counted_by_why_the_model_is_not_asked() -> None:
    prompts = [*planned(6, 3), (ItemSpec("/s", (7,), skip_reason="off"), None), (ItemSpec("/e", (8,)), None)]
    known = KnownAnswers(lambda request: request.user, lambda key: ">1<" in key)
    size = measure(prompts, known)
    assert (size.nodes, size.skipped, size.silent, size.cached, size.repeated, size.asked) == (8, 1, 1, 1, 3, 2)
    assert measure(prompts).asked == 6  # without a cache each one is asked about
    assert size.prompt_bytes == 2 * prompt_bytes(asked("<i><a>1</a></i>"))


def test_answers_are_not_taken_to_be_longer_than_they_may_be() -> None:
    prompt = asked("<i>" + "<a>text</a>" * 500 + "</i>", most=100)
    assert measure([(ItemSpec("/i", (1,)), prompt)]).answer_bytes == 350


def test_measuring_takes_no_more_memory_for_more_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thresher.workflows.discovery.estimate.REMEMBERED_KEYS", 100)
    known = KnownAnswers(lambda request: request.user, lambda _: False)
    measure(planned(50, 50), known)
    tracemalloc.start()
    try:
        measure(planned(1_000, 1_000), known)
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


def test_the_worst_case_is_a_token_for_each_byte_of_all_that_is_sent() -> None:
    request = asked("<i>ü</i>", most=50)
    texts = len("system") + len("<i>ü</i>".encode())
    assert prompt_bytes(request) > texts + len(str(SCHEMA.bounded_format)) * 0.9
    worst = worst_case(request, PRICE)
    assert worst.tokens == prompt_bytes(request) + 50
    assert worst.cost_usd == pytest.approx((prompt_bytes(request) * 1.0 + 50 * 4.0) / 1_000_000)
    assert worst_case(request, None).cost_usd is None
