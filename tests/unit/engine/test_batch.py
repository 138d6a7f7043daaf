"""How what a group cost is divided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.engine.batch import shares
from thresher.engine.fallbacks import MOST_REASONS, OTHER_REASONS, Fallbacks
from thresher.engine.modes import decide, mode_after
from thresher.engine.work import Fallback, Mode, Usage

tokens = st.integers(0, 10**7)


@given(
    prompt=tokens,
    completion=tokens,
    cached=tokens,
    cost=st.none() | st.floats(0, 1e3),
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=50),
)
def test_the_shares_add_up_to_the_whole(
    prompt: int, completion: int, cached: int, cost: float | None, weights: list[int]
) -> None:
    whole = Usage(2, prompt, completion, cached, cost, cache_hits=1)
    parts = shares(whole, weights)
    assert len(parts) == len(weights)
    total = sum(parts, Usage())
    assert (total.requests, total.prompt_tokens, total.completion_tokens) == (2, prompt, completion)
    assert (total.cached_tokens, total.cache_hits) == (cached, 1)
    assert total.cost_usd == (None if cost is None else pytest.approx(cost))
    assert all(part.prompt_tokens >= 0 for part in parts)


def test_the_larger_share_goes_to_the_larger_item() -> None:
    assert [part.prompt_tokens for part in shares(Usage(1, 100), [1, 3])] == [25, 75]
    assert [part.requests for part in shares(Usage(1, 100), [1, 3])] == [1, 0]


def test_fallbacks_are_counted_by_way_and_reason() -> None:
    fallbacks = Fallbacks()
    assert fallbacks.add(Fallback("batch", "single", "left out", 1))
    assert not fallbacks.add(Fallback("batch", "single", "left out", 1))
    assert fallbacks.add(Fallback("batch", "single", "twice", 1))
    assert [(some.reason, some.items) for some in fallbacks.all()] == [("left out", 2), ("twice", 1)]


def test_endless_wordings_of_the_same_trouble_do_not_fill_a_report() -> None:
    fallbacks = Fallbacks()
    for number in range(100):
        fallbacks.add(Fallback("batch", "single", f"reason {number}", 1))
    assert len(fallbacks.all()) == MOST_REASONS + 1
    assert fallbacks.all()[-1] == Fallback("batch", "single", OTHER_REASONS, 100 - MOST_REASONS)


def test_the_chain_of_modes() -> None:
    assert mode_after(Mode.PARALLEL, None) is Mode.BATCH
    assert mode_after(Mode.PARALLEL, "no batches") is Mode.SEQUENTIAL
    assert mode_after(Mode.BATCH, None) is Mode.SEQUENTIAL
    assert mode_after(Mode.SEQUENTIAL, None) is None


def test_two_items_are_not_all_while_more_may_follow() -> None:
    assert decide(2, are_all=False, obstacle=None).mode is Mode.PARALLEL
    assert decide(2, are_all=True, obstacle=None).mode is Mode.BATCH
