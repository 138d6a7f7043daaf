"""One item after the other in the calling thread: for debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thresher.engine.work import Claim, Mode


class SequentialExecutor:
    """Works in the thread that runs the run, in document order: breakpoints work, nothing is interleaved."""

    mode = Mode.SEQUENTIAL
    workers = at_work = 1
    plans_first = True

    def __init__(self) -> None:
        self._work: Callable[[Sequence[Claim]], None] | None = None
        self._settle: Callable[[], None] | None = None

    def start(
        self,
        work: Callable[[Sequence[Claim]], None],
        settle: Callable[[], None],
        freed: Callable[[], None],  # noqa: ARG002 # always room
    ) -> None:
        """Begins a session."""
        self._work, self._settle = work, settle

    def room(self) -> int:
        """One claim at a time."""
        return 1

    def submit(self, claims: Sequence[Claim]) -> None:
        """Works on the group at once and returns when it is done."""
        if self._work is None or self._settle is None:
            raise RuntimeError("start() comes before submit()")
        self._work(claims)
        self._settle()

    def about_to_wait(self) -> None:
        """Nobody else works."""

    def in_hand(self) -> int:
        """Nothing is in hand between two calls."""
        return 0

    def close(self, *, wait: bool) -> None:  # noqa: ARG002 # nothing to wait for
        """Ends the session."""
        self._work = self._settle = None
