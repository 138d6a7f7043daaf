"""Stopping a run from outside its loop: a signal, a fatal error, another thread, what another process asks for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Event, Lock, current_thread, main_thread
from types import FrameType

from thresher.core.errors import ThresherError, own_words
from thresher.core.logging import get_logger
from thresher.engine.work import RunRequest

log = get_logger(__name__)


class Interrupted(ThresherError):
    """Raised inside an item when its run is being stopped; the item goes back to pending."""

    quotes_nothing = True


class RunControl:
    """The handle on one session of a run. Safe to use from any thread and from signal handlers.

    ``request`` is what the run was asked to do from elsewhere, None where nobody asked.
    """

    def __init__(self) -> None:
        self.stopping = Event()
        self.reason: str | None = None
        self.request: RunRequest | None = None
        self.error: BaseException | None = None
        self._lock = Lock()  # protects error, of which the first one stays, and request
        self._wake: SimpleQueue[None] = SimpleQueue()  # put() is safe inside a signal handler, a Condition is not

    def stop(self, reason: str) -> None:
        """No item starts any more; those in hand are finished."""
        if self.reason is None:
            self.reason = reason
        self.stopping.set()
        self.wake()

    def heed(self, request: RunRequest | None) -> None:
        """Stops the run where it is asked to pause or to cancel; what is cancelled does not come to a pause again."""
        with self._lock:
            if request is None or self.request in (request, RunRequest.CANCEL):
                return
            self.request = request
        self.stop(f"asked to {request}")

    def fail(self, error: BaseException) -> None:
        """Stops the run because of an error that concerns all of it."""
        with self._lock:
            is_first = self.error is None
            self.error = self.error or error
        if is_first:
            log.info("run failing", error=type(error).__name__, reason=own_words(error))
        self.stop(str(error))

    def wake(self) -> None:
        """Makes ``wait`` return."""
        self._wake.put(None)

    def wait(self, timeout: float) -> None:
        """Returns after ``wake`` or after ``timeout`` seconds."""
        try:
            self._wake.get(timeout=max(timeout, 0.0))
            while True:
                self._wake.get_nowait()
        except Empty:
            pass


@contextmanager
def stop_on_signals(control: RunControl, announce: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While inside: the first Ctrl-C (or SIGTERM) stops the run in good order, the second raises KeyboardInterrupt.

    ``announce`` is called at the first. Outside the main thread, where Python allows no handlers, nothing changes.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        if control.stopping.is_set():
            raise KeyboardInterrupt
        control.stop("interrupted")
        announce()

    if current_thread() is not main_thread():
        yield
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
