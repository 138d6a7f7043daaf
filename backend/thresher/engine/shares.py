"""A session's share of a run's budget: what sessions of several processes keep together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from thresher.engine.budget import Budget


@dataclass(frozen=True, slots=True)
class Asked:
    """What a session says of itself, and what it asks for. All amounts in atoms (see ``Budget.atoms``).

    ``spent`` since its share was opened, and from what it was opened with; ``reserved`` for requests under way. What it
    was granted beyond these two is given back. ``least`` is wanted at least (0: nothing), ``most`` at most.
    """

    spent: int
    reserved: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a session got: ``granted`` is 0 where ``least`` was not there.

    ``budget`` is the run's as it stands now, None where there is none any more; ``spent`` by all sessions; ``free``
    held by nobody, before ``granted`` was taken; ``elsewhere`` held by other sessions, of which some may come back.
    """

    granted: int
    budget: int | None
    spent: int
    free: int
    elsewhere: int


class ShareStore(Protocol):
    """Keeps the shares of a run's budget. What is spent and held by all sessions never exceeds the budget.

    Saying the same twice is saying it once: each call may be repeated after its answer was lost.
    """

    def open_share(self, run_id: str, owner: str, budget: Budget, lease: float) -> int:
        """Opens a share that holds nothing yet; returns what it begins with as spent.

        That is all that was spent on the run for the only session, nothing for one that joins others.

        Raises:
            StateConflict: others are at work that count in another unit, or keep no budget.
        """

    def draw_share(self, run_id: str, owner: str, asked: Asked, lease: float) -> Drawn | None:
        """Takes more of the budget, or gives back; None where the share is gone: others held its owner for dead.

        Between ``least`` and ``most`` a quarter of what is free is granted: the others are to have something too.
        """

    def close_share(self, run_id: str, owner: str, spent: int) -> None:
        """Ends a share; ``spent`` holds what may have been spent on requests that are still under way.

        What the last one to close knows to be spent, and no attempt tells, is written to the attempt that it is most
        likely of, as unsettled.
        """


@dataclass(frozen=True, slots=True)
class Account:
    """One session's way to its share. ``lease`` in seconds: how long it counts without being renewed."""

    store: ShareStore
    run_id: str
    owner: str
    budget: Budget
    lease: float

    def open(self) -> int:
        """See ``ShareStore.open_share``."""
        return self.store.open_share(self.run_id, self.owner, self.budget, self.lease)

    def draw(self, asked: Asked) -> Drawn | None:
        """See ``ShareStore.draw_share``."""
        return self.store.draw_share(self.run_id, self.owner, asked, self.lease)

    def close(self, spent: int) -> None:
        """See ``ShareStore.close_share``."""
        self.store.close_share(self.run_id, self.owner, spent)
