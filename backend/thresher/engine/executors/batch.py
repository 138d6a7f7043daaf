"""Several items in one go: groups of claims, many groups at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thresher.engine.executors.port import Executor
from thresher.engine.work import Claim, Mode


class BatchExecutor:
    """Hands groups of up to ``most`` claims to the workers of another executor: threads, or the calling thread.

    It asks for as many claims as full groups would hold; the workflow cuts them, and makes smaller groups of large
    items.
    """

    mode = Mode.BATCH

    def __init__(self, inner: Executor, most: int) -> None:
        if most < 1:
            raise ValueError(f"a group holds at least 1 claim, not {most}")
        self.workers = inner.workers
        self.plans_first = inner.plans_first
        self._inner = inner
        self._most = most

    @property
    def at_work(self) -> int:
        """How many of the workers take groups now."""
        return self._inner.at_work

    def start(
        self, work: Callable[[Sequence[Claim]], None], settle: Callable[[], None], freed: Callable[[], None]
    ) -> None:
        """Begins a session."""
        self._inner.start(work, settle, freed)

    def room(self) -> int:
        """Claims for full groups."""
        return self._inner.room() * self._most

    def submit(self, claims: Sequence[Claim]) -> None:
        """Takes a group."""
        self._inner.submit(claims)

    def about_to_wait(self) -> None:
        """Other groups may be worked on meanwhile."""
        self._inner.about_to_wait()

    def in_hand(self) -> int:
        """Groups queued or being worked on."""
        return self._inner.in_hand()

    def close(self, *, wait: bool) -> None:
        """Ends the session."""
        self._inner.close(wait=wait)
