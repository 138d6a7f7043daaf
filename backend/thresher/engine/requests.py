"""What another process asks of a run: looked up while a session works on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from thresher.core.correlation import carried
from thresher.core.errors import ThresherError, own_words
from thresher.core.logging import get_logger
from thresher.engine.control import RunControl
from thresher.engine.ports import Store

log = get_logger(__name__)

LOOK_EVERY = 0.25  # seconds


@contextmanager
def requests_heeded(store: Store, run_id: str, control: RunControl) -> Iterator[None]:
    """While inside: stops the run soon after it was asked to pause or to be cancelled.

    Whoever finishes an attempt learns of it by that, so that no worker begins more than one item afterwards. Where
    items take long, a thread of its own looks: one that also writes could be kept waiting by a locked database.
    """
    with store.telling_requests(run_id, control.heed), _looked_for(store, run_id, control):
        yield


@contextmanager
def _looked_for(store: Store, run_id: str, control: RunControl) -> Iterator[None]:
    ended = Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            try:
                control.heed(store.requested(run_id))
            except ThresherError as failure:  # who writes meets it too, and says so
                log.debug("requests not read", error=type(failure).__name__, reason=own_words(failure))

    thread = Thread(target=carried(look), name="thresher-requests", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        log.warning(
            "thread not started", purpose="requests to pause or cancel", error=type(error).__name__, reason=str(error)
        )
        yield
        return
    try:
        yield
    finally:
        ended.set()
        thread.join()
