"""Hedged requests: one that is late is sent a second time, and whichever answer comes first is taken."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread

from thresher.engine.gate import NoPermit
from thresher.llm.client import ModelReply

SAMPLES_KEPT = 200  # latencies from which the percentile is taken
SAMPLES_NEEDED = 20  # before anything is sent twice

Ask = Callable[[Callable[[], None], bool], ModelReply]
"""Sends a request: called with what to call when it has its permit, and whether to wait for one."""


class _Race:
    """One request and perhaps its second: what came of them, in the order of coming."""

    def __init__(self) -> None:
        self.came: SimpleQueue[ModelReply | Exception] = SimpleQueue()
        self.began = Event()
        self.began_at = 0.0

    def start(self, ask: Ask, *, waits: bool) -> None:
        """Sends it in a thread that may be left behind."""
        run = copy_context().run
        Thread(target=run, args=(self._run, ask, waits), name="thresher-hedge", daemon=True).start()

    def _run(self, ask: Ask, waits: bool) -> None:  # noqa: FBT001 # of a thread
        try:
            self.came.put(ask(self._begin, waits))
        except Exception as error:  # noqa: BLE001 # handed to whoever waits
            self.came.put(error)
        finally:
            self._begin()

    def _begin(self) -> None:
        if not self.began.is_set():
            self.began_at = time.monotonic()
            self.began.set()


class Hedge:
    """Sends a request again when its answer is later than ``percentile`` of the last ones. Safe for any thread.

    Dean and Barroso, The Tail at Scale, CACM 56(2), 2013: "hedged requests". The second one is sent only where the
    limits of the resource let it through at once. Both are paid: ``ask`` has to see to what each of them costs, also
    where it ends after the other one was taken.
    """

    def __init__(self, percentile: float = 0.95) -> None:
        self._percentile = percentile
        self._lock = Lock()  # protects all below
        self.sent = 0  # second requests
        self._latencies: deque[float] = deque(maxlen=SAMPLES_KEPT)

    def send(self, ask: Ask) -> ModelReply:
        """The first answer; the other request may still be under way.

        Raises:
            What ``ask`` raises, where no request was answered: the first error.
        """
        race = _Race()
        race.start(ask, waits=True)
        race.began.wait()
        try:
            first = race.came.get(timeout=self._patience(race))
        except Empty:
            return self._raced(race, ask)
        return self._answered(first, race)

    def _raced(self, race: _Race, ask: Ask) -> ModelReply:
        race.start(lambda begin, waits: ask(lambda: self._second_begins(begin), waits), waits=False)
        first = race.came.get()
        other = None if isinstance(first, ModelReply) else race.came.get()
        if isinstance(first, NoPermit) or isinstance(other, NoPermit):  # it was one request after all
            return self._answered(other if isinstance(first, NoPermit) else first, race)
        return self._answered(other if isinstance(other, ModelReply) else first, race)

    def _second_begins(self, begin: Callable[[], None]) -> None:
        """It has its permit, whatever has become of the first meanwhile."""
        with self._lock:
            self.sent += 1
        begin()

    def _answered(self, came: ModelReply | Exception | None, race: _Race) -> ModelReply:
        if not isinstance(came, ModelReply):
            raise came or NoPermit("no request was sent")
        with self._lock:
            self._latencies.append(time.monotonic() - race.began_at)
        return came

    def _patience(self, race: _Race) -> float | None:
        """Seconds left until the request is late; None where that cannot be told yet."""
        with self._lock:
            if len(self._latencies) < SAMPLES_NEEDED:
                return None
            latencies = sorted(self._latencies)
        usual = latencies[min(int(len(latencies) * self._percentile), len(latencies) - 1)]
        return max(race.began_at + usual - time.monotonic(), 0.001)
