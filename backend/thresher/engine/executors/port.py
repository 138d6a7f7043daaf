"""What the runner asks of an executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from thresher.core.errors import ThresherError
from thresher.engine.work import Claim, Mode


class ModeUnavailable(ThresherError):
    """Raised when a mode cannot work here at all (no thread can be started): the claims given were not taken."""


class Executor(Protocol):
    """Hands claims to workers. One session of a run at a time; used from the runner's thread only.

    Claims come in groups, each for one worker: of one claim, or in batch mode of those that are asked about together.
    ``plans_first`` says whether the whole plan is made before the first item starts (else it is made beside
    the work, a bounded way ahead).
    """

    mode: Mode
    workers: int
    plans_first: bool

    @property
    def at_work(self) -> int:
        """How many workers take groups now: ``workers``, or fewer where the others would not help."""

    def start(
        self, work: Callable[[Sequence[Claim]], None], settle: Callable[[], None], freed: Callable[[], None]
    ) -> None:
        """Begins a session; ``work`` processes a group to its end and raises nothing but KeyboardInterrupt.

        It may leave something to be written by ``settle``, which is called in the same thread, at the latest before
        that thread waits for work or ends; until then the group is in hand.
        ``freed`` is called, from any thread, when there is room again and when nothing is in hand any more.
        """

    def room(self) -> int:
        """How many more claims it takes now, cut into groups or not."""

    def submit(self, claims: Sequence[Claim]) -> None:
        """Takes a group; it is worked on as soon as a worker is free, in the order of submission.

        Raises:
            ModeUnavailable: no worker can be started.
        """

    def about_to_wait(self) -> None:
        """Called in the thread of a worker before it waits for somebody else (a model, its turn): others may work."""

    def in_hand(self) -> int:
        """Groups taken whose work has not ended."""

    def close(self, *, wait: bool) -> None:
        """Ends the session, with ``wait`` after all groups taken are done."""
