"""Documents of batches: fetched where they lie elsewhere, then handed to runs; some at once, in the background.

What a server that was killed had in hand is taken up by the next one, and two servers never begin two runs of the same
document: it is leased, and its run is stored in the transaction that ends the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from thresher.bootstrap import Service, make_limits, make_runner_options
from thresher.core.errors import DatabaseUnavailable, NotFound, StorageFailed, ThresherError
from thresher.core.logging import get_logger
from thresher.integrations.web import WebClient, parse_networks
from thresher.operations.crew import Crew, CrewOptions
from thresher.operations.run_options import RunOptionsIn
from thresher.operations.runs import announced
from thresher.operations.sources import check_kind, find_source, keep_source
from thresher.persistence.repositories import batches as repository
from thresher.persistence.repositories.batches import ClaimedDocument
from thresher.persistence.repositories.sources import Source

log = get_logger(__name__)


def document_crew(service: Service) -> Crew[ClaimedDocument]:
    """Who begins the runs of batches. ``service.bells.batches`` wakes it."""
    settings = service.settings
    options = CrewOptions("batches", settings.fetch_workers, settings.lease_seconds, service.bells.batches)
    return Crew(_Documents(service), options)


class _Documents:
    """See ``Jobs``."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service = service
        self._retry = make_runner_options(settings).retry
        self._web = WebClient(parse_networks(settings.allowed_private_networks), settings.fetch_timeout_seconds)

    def claim(self, owner: str, limit: int, lease: float) -> Sequence[ClaimedDocument]:
        return repository.claim_documents(self._service.db, owner, limit, lease)

    def renew(self, owner: str, lease: float) -> None:
        repository.renew_documents(self._service.db, owner, lease)

    def recover(self, is_dead: Callable[[str], bool]) -> None:
        repository.recover_documents(self._service.db, is_dead)

    def release(self, owner: str) -> None:
        repository.release_documents_of(self._service.db, owner)

    def look_around(self) -> None:
        if repository.finish_batches(self._service.db):
            self._service.bells.deliveries.set()

    def stop(self) -> None:
        self._web.stop()

    def work(self, claimed: ClaimedDocument) -> None:
        service = self._service
        try:
            options = RunOptionsIn.of_json(claimed.batch.options).options()
            source = self._source(claimed)
            new = announced(service, source, options, claimed.name)
            if repository.begin_run(service.db, service.store, claimed, source.source_id, new):
                service.host.wake()
        except (DatabaseUnavailable, StorageFailed):
            raise
        except (ThresherError, OSError) as error:
            self._fail(claimed, error)
        except Exception as error:
            log.exception("document not begun", batch_id=claimed.batch.batch_id, number=claimed.number)
            self._fail(claimed, error)

    def _fail(self, claimed: ClaimedDocument, error: Exception) -> None:
        delay = self._retry.delay(error, claimed.attempts, claimed.attempts)
        retry_at = None if delay is None else datetime.now(UTC) + timedelta(seconds=delay)
        message = str(error) if isinstance(error, ThresherError) else "This is a defect of ours: see the server's log."
        repository.fail_document(self._service.db, claimed, (type(error).__name__, message), retry_at)

    def _source(self, claimed: ClaimedDocument) -> Source:
        """The document of a claim, fetched where it is not kept.

        Raises:
            NotFound: it is no longer kept, and nobody knows where it came from.
            BadInput, PageUnreachable, PageRefused, AddressForbidden: it cannot be fetched, or is no XML.
        """
        workspace = claimed.batch.workspace
        if claimed.source_id is not None:
            return find_source(self._service, workspace, claimed.source_id)
        if claimed.url is None:
            raise NotFound(f"The document {claimed.name} is no longer kept (SOURCE_RETENTION_DAYS): upload it again.")
        with self._service.files.receive() as incoming:
            self._web.fetch(claimed.url, incoming.write, claimed.batch.max_bytes)
            incoming.close()
            check_kind(incoming, claimed.name, make_limits(self._service.settings))
            return keep_source(self._service, workspace, incoming, claimed.name)
