"""An answer that is worked out once for all who ask at about the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")


class SharedAnswer(Generic[T]):
    """What ``make`` returns, for ``fresh`` seconds; to be used in one event loop.

    ``make`` is slow and runs in a thread, one at a time: whoever asks meanwhile gets what it comes to, and no thread.
    What it raises is raised to all who wait, and not kept.
    """

    def __init__(self, make: Callable[[], T], fresh: float) -> None:
        self._make = make
        self._fresh = fresh
        self._made: asyncio.Task[T] | None = None
        self._made_at = 0.0

    async def get(self) -> T:
        """The answer."""
        if self._made is None or (self._made.done() and not self._is_fresh(self._made)):
            self._made = asyncio.create_task(self._work())
        return await asyncio.shield(self._made)

    async def _work(self) -> T:
        made = await run_in_threadpool(self._make)
        self._made_at = asyncio.get_running_loop().time()
        return made

    def _is_fresh(self, made: asyncio.Task[T]) -> bool:
        has_failed = made.cancelled() or made.exception() is not None
        return not has_failed and asyncio.get_running_loop().time() - self._made_at < self._fresh
