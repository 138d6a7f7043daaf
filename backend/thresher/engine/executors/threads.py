"""Many items at once in a ``ThreadPoolExecutor``."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from thresher.engine.work import Claim, Mode

LONGEST_QUEUE = 64  # items, where the workers do not need more
PACE_OVER = 0.1  # seconds


class ThreadsExecutor:
    """A pool of ``workers`` threads with a short queue before it, so that no worker waits for the next claim.

    The queue holds two items for each worker, or what the pool does in a second if that is more (``LONGEST_QUEUE``
    at most), and is filled up when half of it is gone: many claims at a time cost less, but what waits here no
    other process can take.

    ``on_thread_end`` is called in each worker thread when the session ends (to give back what it holds).
    """

    mode = Mode.PARALLEL
    plans_first = False

    def __init__(self, workers: int, on_thread_end: Callable[[], None] | None = None) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.workers = workers
        self._on_thread_end = on_thread_end
        self._pool: ThreadPoolExecutor | None = None
        self._work: Callable[[Claim], None] | None = None
        self._freed: Callable[[], None] = _nobody
        self._lock = Lock()  # protects _in_hand and _ended
        self._in_hand = 0
        self._ended = 0  # since _paced_at
        self._paced_at = time.monotonic()
        self._queue = 2 * workers
        self._low_water = 2 * workers

    def start(self, work: Callable[[Claim], None], freed: Callable[[], None]) -> None:
        """Begins a session; threads are started as they are needed."""
        self._work = work
        self._freed = freed
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="thresher-worker")

    def room(self) -> int:
        """How many claims are wanted: none before half of the queue is gone."""
        self._pace()
        free = self.workers + self._queue - self._in_hand
        return free if free >= self._queue // 2 else 0

    def _pace(self) -> None:
        now = time.monotonic()
        seconds = now - self._paced_at
        if seconds < PACE_OVER:
            return
        with self._lock:
            per_second = self._ended / seconds
            self._ended = 0
        self._paced_at = now
        self._queue = max(2 * self.workers, min(round(per_second), LONGEST_QUEUE))
        self._low_water = self.workers + self._queue - self._queue // 2

    def submit(self, claim: Claim) -> None:
        """Queues the claim for the next free worker."""
        if self._pool is None:
            raise RuntimeError("start() comes before submit()")
        with self._lock:
            self._in_hand += 1
        self._pool.submit(self._run, claim)

    def in_hand(self) -> int:
        """Claims queued or being worked on."""
        return self._in_hand

    def close(self, *, wait: bool) -> None:
        """Ends the session; without ``wait`` threads go on by themselves until their item ends."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
        self._pool = None

    def _run(self, claim: Claim) -> None:
        try:
            if self._work is not None:
                self._work(claim)
        finally:
            with self._lock:
                self._in_hand -= 1
                self._ended += 1
                left = self._in_hand
            if left in (0, self._low_water):  # see room()
                self._freed()
            if self._on_thread_end is not None:
                self._on_thread_end()


def _nobody() -> None:
    """Nobody waits before a session has begun."""
