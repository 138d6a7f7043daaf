"""Leased jobs of the database, some at once, each in a thread; the next server takes what a killed one had in hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Generic, Protocol, TypeVar

from thresher.core.errors import ThresherError, own_words
from thresher.core.logging import get_logger
from thresher.engine.ownership import is_dead, this_process
from thresher.operations.loops import Loop

log = get_logger(__name__)

LOOK_EVERY = 1.0  # seconds until work is seen that another process has left

J = TypeVar("J")


class Jobs(Protocol[J]):
    """What a crew does. Leases are those of ``owner``, in seconds."""

    def claim(self, owner: str, limit: int, lease: float) -> Sequence[J]:
        """Leases up to ``limit`` jobs."""

    def renew(self, owner: str, lease: float) -> None:
        """Extends the leases of ``owner``."""

    def recover(self, is_dead: Callable[[str], bool]) -> None:
        """Frees jobs whose lease is over or whose owner is dead."""

    def release(self, owner: str) -> None:
        """Gives back what ``owner`` has in hand."""

    def work(self, job: J) -> None:
        """Does a job, and writes down how it ended; called from any of the crew's threads."""

    def look_around(self) -> None:
        """Called at each look, before jobs are claimed."""

    def stop(self) -> None:
        """Has jobs in hand end soon."""


@dataclass(frozen=True, slots=True)
class CrewOptions:
    """How a crew works: so many jobs ``at_once``, leased for ``lease`` seconds; ``bell`` has it look at once."""

    name: str
    at_once: int
    lease: float
    bell: Event


class Crew(Generic[J]):
    """Works until it is stopped."""

    def __init__(self, jobs: Jobs[J], options: CrewOptions) -> None:
        self._jobs = jobs
        self._options = options
        self._owner = this_process()
        self._pool = ThreadPoolExecutor(options.at_once, thread_name_prefix=f"thresher-{options.name}")
        self._in_hand: set[Future[None]] = set()  # of the loop's own thread
        self._renewed = time.time()
        self._loop = Loop(options.name, self._look, LOOK_EVERY, options.bell)

    def start(self) -> None:
        """Begins, with what a dead server has left."""
        self._loop.start()

    def stop(self) -> None:
        """Ends; what was not finished is left to the next server."""
        self._jobs.stop()
        self._loop.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        try:
            self._jobs.release(self._owner)
        except ThresherError as error:  # their leases end by themselves
            log.warning("jobs not given back", loop=self._options.name, error=type(error).__name__)

    def _look(self) -> None:
        lease = self._options.lease
        if abs(time.time() - self._renewed) > lease / 4:  # also when the machine was suspended
            self._jobs.renew(self._owner, lease)
            self._renewed = time.time()
        self._jobs.recover(is_dead)
        self._jobs.look_around()
        self._in_hand = {future for future in self._in_hand if not future.done()}
        for job in self._jobs.claim(self._owner, self._options.at_once - len(self._in_hand), lease):
            self._in_hand.add(self._pool.submit(self._do, job))

    def _do(self, job: J) -> None:
        name = self._options.name
        try:
            self._jobs.work(job)
        except ThresherError as error:  # the database is away: it is taken again when its lease is over
            log.warning("job left for later", loop=name, error=type(error).__name__, reason=own_words(error))
        except Exception:
            log.exception("job failed with a defect", loop=name)
        finally:
            self._options.bell.set()
