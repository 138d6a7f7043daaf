"""Reservations of a run's budget: what requests under way may cost is set aside before they are sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from thresher.core.errors import BudgetExhausted
from thresher.engine.budget import Budget, Spending
from thresher.engine.control import Interrupted
from thresher.engine.gate import NoPermit

_LOOK_AROUND = 0.2  # seconds between two looks at whether the run is being stopped


class Reservation:
    """What is set aside for ONE request. Until it is settled it counts as not spent."""

    def __init__(self, worst: int) -> None:
        self.worst = worst
        self.spent = 0
        self._budget: Budget | None = None

    @classmethod
    def of(cls, budget: Budget, worst: int) -> Reservation:
        """A reservation that counts in the unit of a budget."""
        reservation = cls(worst)
        reservation._budget = budget
        return reservation

    def settle(self, spent: Spending | None) -> None:
        """What the request really took. None, or an unknown cost: the worst case is held to be spent."""
        if self._budget is not None:
            atoms = None if spent is None else self._budget.atoms_of(spent)
            self.spent = self.worst if atoms is None else atoms


class Ledger:
    """The budget of one session of a run, shared by its workers; without a budget everything fits.

    Spent and reserved together never exceed the budget, as long as no request takes more than was reserved for it.
    Fair: a request that does not fit yet waits, those that come later behind it, until others are settled.
    """

    def __init__(self, budget: Budget | None = None, spent: Spending = Spending()) -> None:  # noqa: B008 # frozen
        self._budget = budget
        self._lock = Lock()  # protects all below
        self._spent = 0 if budget is None else budget.atoms_of(spent) or 0
        self._reserved = 0
        self._waiting: deque[Condition] = deque()

    @property
    def spent(self) -> int:
        """What is spent, in atoms of the budget (see ``Budget.atoms``)."""
        return self._spent

    @property
    def reserved(self) -> int:
        """What is set aside for requests under way, in the same."""
        return self._reserved

    @contextmanager
    def reserve(
        self, worst: Spending, is_stopping: Callable[[], bool] = lambda: False, *, waits: bool = True
    ) -> Iterator[Reservation]:
        """Sets aside what a request may take at most, and while inside holds it.

        A request that is not settled inside has cost nothing.

        Raises:
            BudgetExhausted: it does not fit, and no request is under way whose end could change that.
            NoPermit: it does not fit at this moment, and does not wait.
            Interrupted: ``is_stopping`` became true while waiting (looked at every 0.2 s).
        """
        if self._budget is None:
            yield Reservation(0)
            return
        reservation = Reservation.of(self._budget, self._worst(worst, self._budget))
        self._take(self._budget, reservation.worst, is_stopping, waits=waits)
        try:
            yield reservation
        finally:
            with self._lock:
                self._reserved -= reservation.worst
                self._spent += reservation.spent
                self._call_next()

    def _worst(self, worst: Spending, budget: Budget) -> int:
        atoms = budget.atoms_of(worst)
        if atoms is None:
            raise BudgetExhausted(f"A budget of {budget} cannot be kept: the price of the model is unknown.")
        return atoms

    def _take(self, budget: Budget, worst: int, is_stopping: Callable[[], bool], *, waits: bool) -> None:
        with self._lock:
            if not self._waiting and self._fits(budget, worst):
                self._reserved += worst
                return
            if not waits:
                raise NoPermit("What is left of the budget does not cover a further request at this moment.")
            ticket = Condition(self._lock)
            self._waiting.append(ticket)
            try:
                self._wait(ticket, budget, worst, is_stopping)
            finally:
                self._waiting.remove(ticket)
                self._call_next()

    def _wait(self, ticket: Condition, budget: Budget, worst: int, is_stopping: Callable[[], bool]) -> None:
        while True:
            if is_stopping():
                raise Interrupted("The run was stopped while this item waited for a part of the budget.")
            if self._waiting[0] is ticket:
                if self._fits(budget, worst):
                    self._reserved += worst
                    return
                if not self._reserved:
                    raise self._exhausted(budget, worst)
            ticket.wait(_LOOK_AROUND)

    def _fits(self, budget: Budget, worst: int) -> bool:
        return self._spent + self._reserved + worst <= budget.atoms

    def _exhausted(self, budget: Budget, worst: int) -> BudgetExhausted:
        return BudgetExhausted(
            f"The budget of {budget.shown(budget.atoms)} does not cover a further request: "
            f"{budget.shown(self._spent)} are spent, and it may take up to {budget.shown(worst)}."
        )

    def _call_next(self) -> None:
        if self._waiting:
            self._waiting[0].notify()
