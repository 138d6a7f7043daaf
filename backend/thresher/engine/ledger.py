"""Reservations of a run's budget: what requests under way may cost is set aside before they are sent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from thresher.core.errors import BudgetExhausted, DatabaseUnavailable
from thresher.engine.budget import Budget, Spending
from thresher.engine.control import Interrupted
from thresher.engine.gate import NoPermit
from thresher.engine.shares import Account, Asked, Drawn

_LOOK_AROUND = 0.2  # seconds between two looks at whether the run is being stopped, and at what others gave back
_AHEAD = 4  # times what is under way: so much is held at most. A process that is killed takes its share along


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

    With an ``account`` the session shares the budget with other sessions, also of other processes: it draws of it by
    portions, and gives back what it does not need while it waits. Alone it comes to the same as without.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        spent: Spending = Spending(),  # noqa: B008 # frozen
        account: Account | None = None,
    ) -> None:
        self._budget = budget
        self._account = account
        self._lock = Lock()  # protects all below; never held while the account is asked
        self._spent = 0 if budget is None else budget.atoms_of(spent) or 0
        if account is not None:
            self._spent = account.open()
        self._reserved = 0
        self._limit = self._spent if account is not None or budget is None else budget.atoms  # of both together
        self._held = 0  # what the account holds for us, as far as it was told
        self._waiting: deque[Condition] = deque()  # only the first of them asks the account
        self._ask_again_at = 0.0  # by the monotonic clock, while others of this session are under way
        self._is_closed = False

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

    def give_back(self) -> None:
        """Leaves to other sessions what this one holds, where it has nothing under way."""
        with self._lock:
            is_idle = not self._waiting and not self._reserved and not self._is_closed
            if self._account is not None and is_idle and self._held:
                with self._queued():
                    self._draw(self._account, 0)

    def close(self) -> None:
        """Ends the session's share. What is under way all the same counts as spent; nothing more is set aside."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            spent = self._spent + self._reserved
        if self._account is not None and not was_closed:
            self._account.close(spent)

    def _worst(self, worst: Spending, budget: Budget) -> int:
        atoms = budget.atoms_of(worst)
        if atoms is None:
            raise BudgetExhausted(f"A budget of {budget} cannot be kept: the price of the model is unknown.")
        return atoms

    def _take(self, budget: Budget, worst: int, is_stopping: Callable[[], bool], *, waits: bool) -> None:
        with self._lock:
            if not self._waiting and self._fits(worst):
                self._reserved += worst
                return
            with self._queued() as ticket:
                while True:
                    if is_stopping() or self._is_closed:
                        raise Interrupted("The run was stopped while this item waited for a part of the budget.")
                    if self._waiting[0] is ticket and self._got(budget, worst, waits=waits):
                        return
                    if not waits:
                        raise NoPermit("What is left of the budget does not cover a further request at this moment.")
                    ticket.wait(_LOOK_AROUND)

    @contextmanager
    def _queued(self) -> Iterator[Condition]:
        ticket = Condition(self._lock)
        self._waiting.append(ticket)
        try:
            yield ticket
        finally:
            self._waiting.remove(ticket)
            self._call_next()

    def _got(self, budget: Budget, worst: int, *, waits: bool) -> bool:
        """Whether the first of those that wait has its part now; who does not wait asks once.

        Raises:
            BudgetExhausted: it will not get it any more.
        """
        is_idle = not self._reserved
        drawn = Drawn(0, budget.atoms, self._spent, self._limit - self._spent, 0)
        if not self._fits(worst) and self._account is not None:
            if not is_idle and time.monotonic() < self._ask_again_at:
                return False
            answer = self._draw(self._account, worst)
            if answer is None:
                return False
            drawn = answer
        if self._fits(worst):
            self._reserved += worst
            return True
        self._ask_again_at = time.monotonic() + _LOOK_AROUND
        if waits and is_idle and drawn.free + drawn.elsewhere < worst:
            raise self._exhausted(budget, drawn, worst)
        return False

    def _fits(self, worst: int) -> bool:
        return self._spent + self._reserved + worst <= self._limit

    def _draw(self, account: Account, least: int) -> Drawn | None:
        """Gives back what is left, and takes at least so much; None where the answer is not known yet.

        Called by the first of those that wait, so by one at a time.
        """
        most = _AHEAD * (self._reserved + least) - self._reserved
        asked = Asked(self._spent, self._reserved, least, most)
        self._limit = self._spent + self._reserved
        with self._unlocked():
            try:
                drawn, spent = account.draw(asked), 0
                if drawn is None:
                    spent = account.open()
            except DatabaseUnavailable:
                return None
        if drawn is None:  # held for dead: what was held is spent, for all that anybody knows
            self._spent, self._limit, self._held = spent, spent + self._reserved, 0
        else:
            self._limit += drawn.granted
            self._held = asked.reserved + drawn.granted
        return drawn

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    def _exhausted(self, budget: Budget, drawn: Drawn, worst: int) -> BudgetExhausted:
        return BudgetExhausted(
            f"The budget of {budget.shown(drawn.budget or 0)} does not cover a further request: "
            f"{budget.shown(drawn.spent)} are spent, and it may take up to {budget.shown(worst)}."
        )

    def _call_next(self) -> None:
        if self._waiting:
            self._waiting[0].notify()
