"""Waiting for a run without a thread and without keeping anybody else waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.concurrency import run_in_threadpool

from thresher.bootstrap import Service
from thresher.engine.feed import ProgressFeed, Subscription
from thresher.engine.work import ENDED, Run, RunStatus

LOOK_EVERY = 1.0  # seconds between two looks at the rows: of a run that is worked on elsewhere nothing else is heard
_AT_REST = ENDED | {RunStatus.PAUSED}


class Onlooker:
    """The news of a run, for a coroutine: ``await wait(...)``, then ``take()`` from the subscription."""

    def __init__(self, subscription: Subscription, news: asyncio.Event) -> None:
        self.subscription = subscription
        self._news = news

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 # whoever waits wants to know that nothing came
        """Waits until there is news, for ``timeout`` seconds at most; says whether there is."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout)
        was_set = self._news.is_set()
        self._news.clear()
        return was_set


@asynccontextmanager
async def looking_on(feed: ProgressFeed, run_id: str) -> AsyncIterator[Onlooker]:
    """The news of a run while inside; to be used in the event loop."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(news.set)

    with feed.subscribed((run_id,), wake) as subscription:
        yield Onlooker(subscription, news)


async def wait_for_end(service: Service, run: Run, longest: float) -> Run:
    """The run when it has ended or come to rest, or after ``longest`` seconds; at once when the server stops."""
    loop = asyncio.get_running_loop()
    until = loop.time() + longest
    async with looking_on(service.feed, run.run_id) as onlooker:
        while run.status not in _AT_REST and (left := until - loop.time()) > 0:
            await _until_finished(onlooker, min(left, LOOK_EVERY))
            run = await run_in_threadpool(service.store.get_run, run.run_id)
            if onlooker.subscription.is_closed:
                break
    return run


async def _until_finished(onlooker: Onlooker, longest: float) -> None:
    """Until the session says that it has finished, or some time has passed."""
    loop = asyncio.get_running_loop()
    until = loop.time() + longest
    while not onlooker.subscription.is_closed and (left := until - loop.time()) > 0:
        await onlooker.wait(left)
        if any(state.is_over for state in onlooker.subscription.take().values()):
            return
