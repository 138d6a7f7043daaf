"""All that a server does beside answering and working on runs."""

from __future__ import annotations

from thresher.bootstrap import Service
from thresher.operations.batch_documents import document_crew
from thresher.operations.notifications import delivery_crew
from thresher.operations.schedules import scheduler
from thresher.operations.sources import retention


class Background:
    """Starts and stops it."""

    def __init__(self, service: Service) -> None:
        self._parts = (document_crew(service), delivery_crew(service), scheduler(service), retention(service))

    def start(self) -> None:
        """Begins."""
        for part in self._parts:
            part.start()

    def stop(self) -> None:
        """Ends in good order; what was not finished is left to the next server."""
        for part in self._parts:
            part.stop()
