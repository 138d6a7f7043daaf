from __future__ import annotations

from decimal import Decimal

import pytest

from thresher.engine.budget import Budget, Unit
from thresher.engine.work import Counts, Usage
from thresher.operations.moments import BudgetState, Documents, Latency, Nodes


@pytest.mark.parametrize(("in_hand", "running"), [(0, 0), (4, 4), (40, 10)])
def test_what_is_in_hand_is_running_and_the_counts_still_add_up(in_hand: int, running: int) -> None:
    nodes = Nodes.of(Counts(pending=10, succeeded=3, dead=1), in_hand)
    assert (nodes.running, nodes.pending, nodes.total, nodes.finished) == (running, 10 - running, 14, 4)


def test_percentiles_are_by_nearest_rank() -> None:
    assert Latency.of([]) is None
    assert Latency.of([2.0]) == Latency(2.0, 2.0, 2.0, 1)
    assert Latency.of([float(number) for number in range(100, 0, -1)]) == Latency(50.0, 90.0, 99.0, 100)


def test_an_unknown_cost_is_an_unknown_share_of_a_budget() -> None:
    budget = Budget(Decimal(2), Unit.USD)
    assert BudgetState.of(None, Usage()) is None
    assert BudgetState.of(budget, Usage(cost_usd=0.5)) == BudgetState(2.0, "USD", 0.5, 0.25)
    assert BudgetState.of(budget, Usage(cost_usd=None)) == BudgetState(2.0, "USD", None, None)


def test_the_line_of_a_batch_says_what_there_is_to_say() -> None:
    documents = Documents(total=50, pending=35, running=3, succeeded=11, failed=1)
    assert documents.line("b1") == "Batch b1: 12 of 50 documents, 3 running, 1 failed"
    assert Documents(total=2, succeeded=2).line("b2") == "Batch b2: 2 of 2 documents"
