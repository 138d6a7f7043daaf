"""To which run, batch, item and attempt the work at hand belongs: in every log line, every span, every request."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Correlation:
    """A place in the hierarchy run, batch, item, attempt. ``item`` is the item's number in the database.

    Numbers and the run's identifier only: what an item is called may be personal data.
    """

    run_id: str
    batch: int | None = None
    item: int | None = None
    attempt: int | None = None

    @property
    def id(self) -> str:
        """All levels in one word, such as ``r06ahq2c9k0d1/b3/i17/a2``: a beginning of it finds all below a level."""
        parts = [self.run_id]
        if self.batch is not None:
            parts.append(f"b{self.batch}")
        if self.item is not None:
            parts.append(f"i{self.item}")
        if self.attempt is not None:
            parts.append(f"a{self.attempt}")
        return "/".join(parts)


_CURRENT: ContextVar[Correlation | None] = ContextVar("correlation", default=None)


def current() -> Correlation | None:
    """The place of what this thread is doing, None outside of runs."""
    return _CURRENT.get()


class correlated:  # noqa: N801 # a context manager reads like a verb
    """While inside, what this thread does belongs to ``place``."""

    __slots__ = ("_place", "_token")

    def __init__(self, place: Correlation) -> None:
        self._place = place

    def __enter__(self) -> None:
        self._token = _CURRENT.set(self._place)

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._token)


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """The function for another thread, where it belongs to the same place: a new thread knows none."""
    return partial(copy_context().run, function)
