"""A request that ends after its attempt: what it took stands in the attempt in the end, until then its most."""

from __future__ import annotations

from threading import Event, Thread

import pytest
from contract_support import Bench, Plain, numbered

from thresher.engine.ports import AttemptContext
from thresher.engine.work import Claim, Outcome, RunStatus, Usage

ITEMS = 12  # more than two groups
WON = Usage(1, 10, 5, cost_usd=0.5)
MOST = Usage(1, unsettled_tokens=100, unsettled_cost_usd=0.25)
LOST = {
    "answered": (Usage(1, 20, 7, cost_usd=0.125), (2, 30, 12, 0.625, 0, 0.0)),
    "timed out": (MOST, (2, 10, 5, 0.5, 100, 0.25)),
    "refused": (Usage(1), (2, 10, 5, 0.5, 0, 0.0)),
    "still under way": (None, (2, 10, 5, 0.5, 100, 0.25)),
}


@pytest.mark.parametrize("how", LOST)
def test_the_slower_of_two_requests_is_paid_for_by_its_attempt(bench: Bench, how: str) -> None:
    took, expected = LOST[how]
    has_begun, may_end = Event(), Event()
    late: list[Thread] = []

    def process(claim: Claim, context: AttemptContext) -> Outcome:
        if claim.key == "item-0":
            context.record_usage(WON)
            settle = context.open_bill(MOST)
            if took is not None:
                late.append(Thread(target=lambda: may_end.wait(60) and settle(took)))
                late[0].start()
            has_begun.set()
        elif claim.key == f"item-{ITEMS - 1}":
            assert has_begun.wait(60)
            may_end.set()
            for thread in late:
                thread.join(60)
        return Outcome()

    report = bench.run(Plain(numbered(ITEMS), process))
    usage = report.usage
    assert report.status is RunStatus.SUCCEEDED
    assert (
        *(usage.requests, usage.prompt_tokens, usage.completion_tokens, usage.cost_usd),
        *(usage.unsettled_tokens, usage.unsettled_cost_usd),
    ) == expected
