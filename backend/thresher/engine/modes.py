"""Which mode a run's items are handed to workers in, and what takes over where one cannot work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from thresher.engine.executors.port import Executor
from thresher.engine.work import Mode

ENOUGH_TO_DECIDE = 3  # items; with so many, more make no difference
_CHAIN = (Mode.PARALLEL, Mode.BATCH, Mode.SEQUENTIAL)


@dataclass(frozen=True, slots=True)
class ModeWish:
    """The mode that is wished, and by whom; ``mode`` None is ``auto``: decided when the first items are known."""

    mode: Mode | None
    reason: str

    @property
    def at_first(self) -> Mode:
        """What a run is stored with until it is decided."""
        return self.mode or Mode.PARALLEL


@dataclass(frozen=True, slots=True)
class Decision:
    """A mode, and why."""

    mode: Mode
    reason: str


@dataclass(frozen=True, slots=True)
class Modes:
    """The modes of one session. ``make(mode, threads)`` makes an executor, one without threads where they fail.

    ``falls_back`` is False where the caller has brought an executor of its own.
    """

    wish: ModeWish
    make: Callable[[Mode, bool], Executor]
    falls_back: bool = True

    @classmethod
    def fixed(cls, executor: Executor, reason: str) -> Self:
        """One executor and no other."""
        return cls(ModeWish(executor.mode, reason), lambda _mode, _threads: executor, falls_back=False)


def decide(items: int, *, are_all: bool, obstacle: str | None) -> Decision:
    """``auto``: one item alone, two in one request, more in parallel.

    ``items`` are open, ``are_all`` says whether the plan has ended with them; ``obstacle`` is why several cannot be
    asked about at once, None where they can.
    """
    if not are_all or items >= ENOUGH_TO_DECIDE:
        return Decision(Mode.PARALLEL, f"auto: more than {ENOUGH_TO_DECIDE - 1} nodes")
    if items < ENOUGH_TO_DECIDE - 1:
        return Decision(Mode.SEQUENTIAL, f"auto: {'1 node' if items else 'no nodes'}")
    if obstacle is not None:
        return Decision(Mode.SEQUENTIAL, f"auto: {items} nodes, and {obstacle}")
    return Decision(Mode.BATCH, f"auto: {items} nodes")


def mode_after(mode: Mode, obstacle: str | None) -> Mode | None:
    """What takes over from a mode that cannot work: parallel, batch, sequential, nothing."""
    following = _CHAIN[_CHAIN.index(mode) + 1 :]
    return next((later for later in following if later is not Mode.BATCH or obstacle is None), None)
