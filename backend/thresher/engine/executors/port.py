"""What the runner asks of an executor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from thresher.engine.work import Claim, Mode


class Executor(Protocol):
    """Hands claims to workers. One session of a run at a time; used from the runner's thread only.

    ``plans_first`` says whether the whole plan is made before the first item starts (else it is made beside
    the work, a bounded way ahead).
    """

    mode: Mode
    workers: int
    plans_first: bool

    def start(self, work: Callable[[Claim], None], freed: Callable[[], None]) -> None:
        """Begins a session; ``work`` processes one claim to its end and raises nothing but KeyboardInterrupt.

        ``freed`` is called, from any thread, when there is room again and when nothing is in hand any more.
        """

    def room(self) -> int:
        """How many more claims it takes now."""

    def submit(self, claim: Claim) -> None:
        """Takes a claim; it is worked on as soon as a worker is free, in the order of submission."""

    def in_hand(self) -> int:
        """Claims taken whose work has not ended."""

    def close(self, *, wait: bool) -> None:
        """Ends the session, with ``wait`` after all claims taken are done."""
