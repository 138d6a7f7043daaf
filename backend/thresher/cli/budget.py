"""``--budget``: what a command may spend, over all its files; and what is said when it is used up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.core.errors import BudgetExhausted
from thresher.engine.budget import Budget, Unit
from thresher.engine.work import JsonObject, Usage
from thresher.llm.client import ModelClient
from thresher.llm.prices import FREE


class Purse:
    """The budget of one command: what one run leaves of it is the next one's."""

    def __init__(self, budget: Budget | None) -> None:
        self.budget = budget
        self.is_empty = False

    def pay(self, usage: Usage, error: JsonObject | None) -> None:
        """Takes out what a run may have spent; empty where that run had to stop for want of money."""
        if self.budget is None:
            return
        left = self.budget.minus(usage.spent_at_most)
        self.is_empty = left is None or is_exhausted(error)
        self.budget = left or self.budget


def note_on(client: ModelClient, budget: Budget | None) -> str | None:
    """What is to be said of a budget that nothing will be taken from."""
    if budget is None or client.price != FREE or (budget.unit is Unit.TOKENS and client.resource is not None):
        return None
    return f"Note: {client.provider} is free, nothing will be taken from the budget of {budget}."


def is_exhausted(error: JsonObject | None) -> bool:
    """Whether a run stopped because its budget was used up."""
    return error is not None and error["class"] == BudgetExhausted.__name__


def way_on(result: Mapping[str, Any]) -> str:
    """What is left to do of a run whose budget is used up, and how."""
    number = result["nodes_open"]
    are_open = f"{number:,} node{' is' if number == 1 else 's are'} open"
    return f"{are_open}: `thresher resume {result['run_id']} --budget AMOUNT` goes on, AMOUNT being for the whole run."
