"""Many items at once in a ``ThreadPoolExecutor``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TypeAlias

from thresher.core.logging import get_logger
from thresher.engine.executors.crew import Crew
from thresher.engine.executors.port import ModeUnavailable
from thresher.engine.work import Claim, Mode

log = get_logger(__name__)

_Groups: TypeAlias = "SimpleQueue[Sequence[Claim] | None]"

LONGEST_QUEUE = 256  # groups, where the workers do not need more
PACE_OVER = 0.1  # seconds
MOST_UNSETTLED = 32  # groups of one thread, after which it settles though there is more to do


class ThreadsExecutor:
    """A pool of ``workers`` threads with a short queue before it, so that no worker waits for the next claim.

    Each thread is one task of the pool and takes group after group: a task for each group would cost more than
    handing it over. There are as many as groups in hand, ``workers`` at most.

    The queue holds two groups for each worker, or what the pool does in a second if that is more (``LONGEST_QUEUE``
    at most), and is filled up when half of it is gone: many claims at a time cost less, but what waits here no
    other process can take.

    Who of the threads takes groups is said by ``crew``: all of them, or one where the others would not help.
    ``on_thread_end`` is called in each worker thread when the session ends (to give back what it holds).
    """

    mode = Mode.PARALLEL
    plans_first = False

    def __init__(self, workers: int, on_thread_end: Callable[[], None] | None = None, crew: Crew | None = None) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.workers = workers
        self._on_thread_end = on_thread_end
        self._crew = crew or Crew()
        self._pool: ThreadPoolExecutor | None = None
        self._work: Callable[[Sequence[Claim]], None] | None = None
        self._settle: Callable[[], None] = _nobody
        self._freed: Callable[[], None] = _nobody
        self._groups: _Groups = SimpleQueue()  # None ends a thread
        self._lock = Lock()  # protects the counts below
        self._threads = 0
        self._most_threads = workers
        self._in_hand = 0
        self._unsettled = 0  # worked on, and not settled
        self._ended = self._ended_by_first = 0  # since _paced_at
        self._paced_at = time.monotonic()
        self._queue = 2 * workers
        self._low_water = 2 * workers

    @property
    def at_work(self) -> int:
        """All threads, or one (see ``Crew``)."""
        return 1 if self._crew.is_alone else self.workers

    def start(
        self, work: Callable[[Sequence[Claim]], None], settle: Callable[[], None], freed: Callable[[], None]
    ) -> None:
        """Begins a session; threads are started as they are needed."""
        self._work = work
        self._settle = settle
        self._freed = freed
        self._groups = SimpleQueue()
        self._threads, self._most_threads = 0, self.workers
        self._paced_at, self._ended, self._ended_by_first = time.monotonic(), 0, 0
        self._crew.begin()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="thresher-worker")

    def room(self) -> int:
        """How many groups are wanted: none before half of the queue is gone."""
        self._pace()
        free = self.workers + self._queue - self._in_hand
        return free if free >= self._queue // 2 else 0

    def _pace(self) -> None:
        now = time.monotonic()
        seconds = now - self._paced_at
        if seconds < PACE_OVER:
            return
        with self._lock:
            ended, by_first = self._ended, self._ended_by_first
            self._ended = self._ended_by_first = 0
        per_second = ended / seconds
        self._crew.measure(ended, by_first)
        self._paced_at = now
        self._queue = max(2 * self.workers, min(round(per_second), LONGEST_QUEUE))
        self._low_water = self.workers + self._queue - self._queue // 2

    def submit(self, claims: Sequence[Claim]) -> None:
        """Queues the group for the next free worker.

        Raises:
            ModeUnavailable: not one thread can be started. Where some run already, they do the work of all.
        """
        if self._pool is None:
            raise RuntimeError("start() comes before submit()")
        with self._lock:
            self._in_hand += 1
            number = self._threads
            is_thread_wanted = number < min(self._in_hand, self._most_threads)
            self._threads += is_thread_wanted
        self._groups.put(claims)
        if is_thread_wanted:
            self._start_thread(self._pool, number)

    def _start_thread(self, pool: ThreadPoolExecutor, number: int) -> None:
        try:
            pool.submit(self._work_on_all, number)
        except (RuntimeError, MemoryError) as error:
            self._threads -= 1
            if not self._threads:
                self._forget_all()
                raise ModeUnavailable(f"{error or 'out of memory'}") from error
            self._most_threads = self._threads
            log.warning("thread not started", purpose="work", error=type(error).__name__, reason=str(error))

    def _forget_all(self) -> None:
        """Nothing that was queued will be worked on: there is nobody to do it."""
        self.close(wait=False)
        with self._lock:
            self._in_hand = self._unsettled = 0

    def in_hand(self) -> int:
        """Groups queued, being worked on or not settled."""
        with self._lock:
            return self._in_hand + self._unsettled

    def close(self, *, wait: bool) -> None:
        """Ends the session; without ``wait`` threads go on by themselves until their item ends."""
        if self._pool is None:
            return
        with suppress(Empty):
            while True:
                self._groups.get_nowait()
        for _ in range(self._threads):
            self._groups.put(None)
        self._crew.call_all()
        self._pool.shutdown(wait=wait, cancel_futures=True)
        self._pool = None

    def about_to_wait(self) -> None:
        """Others may work meanwhile."""
        self._crew.about_to_wait()

    def _work_on_all(self, number: int) -> None:
        """One thread, from its start to the end of the session; it settles before it waits."""
        unsettled = 0
        while True:
            claims = self._at_once() if 0 < unsettled < MOST_UNSETTLED else ()
            if claims is not None and not claims:
                self._settle_all(unsettled)
                unsettled = 0
                self._crew.wait_for_turn(number)
                claims = self._groups.get()
            if claims is None:
                self._settle_all(unsettled)
                return
            self._run(claims, number)
            unsettled += 1

    def _at_once(self) -> Sequence[Claim] | None:
        """The next group, an empty one where none is there yet."""
        try:
            return self._groups.get_nowait()
        except Empty:
            return ()

    def _run(self, claims: Sequence[Claim], number: int) -> None:
        try:
            if self._work is not None:
                self._work(claims)
        except Exception:
            log.exception("group not worked on")
        finally:
            with self._lock:
                self._in_hand -= 1
                self._unsettled += 1
                self._ended += 1
                self._ended_by_first += not number
                left = self._in_hand
            if left == self._low_water:  # see room()
                self._freed()
            if self._on_thread_end is not None:
                self._on_thread_end()

    def _settle_all(self, groups: int) -> None:
        """Ends what this thread has worked on since the last time."""
        if not groups:
            return
        try:
            self._settle()
        except Exception:
            log.exception("group not settled")
        finally:
            with self._lock:
                self._unsettled -= groups
                left = self._in_hand + self._unsettled
            if not left:
                self._freed()


def _nobody() -> None:
    """Nobody waits before a session has begun."""
