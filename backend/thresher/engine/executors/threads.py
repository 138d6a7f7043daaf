"""Many items at once in a ``ThreadPoolExecutor``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from thresher.engine.work import Claim, Mode


class ThreadsExecutor:
    """A pool of ``workers`` threads with a short queue before it, so that no worker waits for the next claim.

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
        self._lock = Lock()  # protects _in_hand
        self._in_hand = 0

    def start(self, work: Callable[[Claim], None], freed: Callable[[], None]) -> None:
        """Begins a session; threads are started as they are needed."""
        self._work = work
        self._freed = freed
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="thresher-worker")

    def room(self) -> int:
        """Up to three times as many claims as workers are in hand; claims are asked for a pool at a time."""
        free = 3 * self.workers - self._in_hand
        return free if free >= self.workers else 0

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
                left = self._in_hand
            if left in (0, 2 * self.workers):  # see room()
                self._freed()
            if self._on_thread_end is not None:
                self._on_thread_end()


def _nobody() -> None:
    """Nobody waits before a session has begun."""
