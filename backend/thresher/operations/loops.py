"""What a server does now and then beside answering, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

from thresher.core.errors import ThresherError, own_words
from thresher.core.logging import get_logger

log = get_logger(__name__)


class Loop:
    """Calls ``look`` every so many seconds, and at once when the ``bell`` rings. What fails is tried again then."""

    def __init__(self, name: str, look: Callable[[], object], every: float, bell: Event | None = None) -> None:
        self._name = name
        self._look = look
        self._every = every
        self._bell = bell or Event()
        self._has_ended = False
        self._thread = Thread(target=self._run, name=f"thresher-{name}", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; waits for nothing but what is being done just now."""
        self._has_ended = True
        self._bell.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._has_ended:
            self._bell.clear()
            try:
                self._look()
            except (ThresherError, OSError) as error:
                log.warning("loop not done", loop=self._name, error=type(error).__name__, reason=own_words(error))
            except Exception:
                log.exception("loop failed with a defect", loop=self._name)
            self._bell.wait(self._every)
