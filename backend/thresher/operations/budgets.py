"""Budgets that are given: whether they can be kept."""

from __future__ import annotations

from dataclasses import dataclass

from thresher.core.errors import BadConfiguration, StateConflict
from thresher.engine.budget import Budget, Spending, Unit
from thresher.engine.work import Run
from thresher.llm.client import ModelClient
from thresher.persistence.repositories.store import SqlStore

NONE = "none"


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """A new budget for a run that goes on; ``budget`` None: it may spend what it takes."""

    budget: Budget | None

    @classmethod
    def read(cls, text: str | None) -> BudgetChange | None:
        """What somebody says; None where nothing was said.

        Raises:
            BadConfiguration: it is no budget.
        """
        if text is None:
            return None
        return cls(None if text.strip().lower() == NONE else Budget.parse(text))


def check_price(client: ModelClient, budget: Budget | None) -> None:
    """Refuses a budget in dollars for a model whose price nobody knows.

    Raises:
        BadConfiguration: it is one; the message names the model.
    """
    if budget is not None and budget.unit is Unit.USD and client.price is None:
        raise BadConfiguration(
            f"A budget in USD needs the price of {client.model}, which is unknown: give it in a file named by "
            "PRICES_FILE, or give the budget in tokens, such as 200ktokens."
        )


def check_spent(store: SqlStore, run: Run, budget: Budget | None) -> None:
    """Refuses a budget in dollars for a run that has spent nobody knows how many.

    Raises:
        StateConflict: it is one.
    """
    if budget is None:
        return
    usage = store.totals(run.run_id).usage
    if budget.atoms_of(Spending(usage.prompt_tokens + usage.completion_tokens, usage.cost_usd)) is None:
        raise StateConflict(
            f"A budget of {budget} cannot be kept: what run {run.run_id} has spent so far is unknown in USD. "
            "Give a budget in tokens, or none."
        )
