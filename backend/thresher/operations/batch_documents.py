"""Documents of batches: fetched where they lie elsewhere, then handed to runs; some at once, in the background.

What a server that was killed had in hand is taken up by the next one, and two servers never begin two runs of the same
document: it is leased, and its run is stored in the transaction that ends the lease.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from thresher.bootstrap import Service, make_limits, make_runner_options
from thresher.core.errors import DatabaseUnavailable, NotFound, StorageFailed, ThresherError, own_words
from thresher.core.logging import get_logger
from thresher.engine.ownership import is_dead, this_process
from thresher.integrations.web import WebClient, parse_networks
from thresher.operations.loops import Loop
from thresher.operations.run_options import RunOptionsIn
from thresher.operations.runs import announced
from thresher.operations.sources import check_kind, find_source, keep_source
from thresher.persistence.repositories import batches as repository
from thresher.persistence.repositories.batches import ClaimedDocument
from thresher.persistence.repositories.sources import Source

log = get_logger(__name__)

LOOK_EVERY = 1.0  # seconds until work is seen that another process has left


class BatchDocuments:
    """Begins the runs of batches until it is stopped. ``service.bells.batches`` wakes it."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service = service
        self._owner = this_process()
        self._lease = settings.lease_seconds
        self._retry = make_runner_options(settings).retry
        self._at_once = settings.fetch_workers
        self._web = WebClient(parse_networks(settings.allowed_private_networks), settings.fetch_timeout_seconds)
        self._pool = ThreadPoolExecutor(self._at_once, thread_name_prefix="thresher-fetch")
        self._in_hand: set[Future[None]] = set()  # of the loop's own thread
        self._renewed = time.monotonic()
        self._loop = Loop("batches", self._look, LOOK_EVERY, service.bells.batches)

    def start(self) -> None:
        """Begins, with what a dead server has left."""
        self._loop.start()

    def stop(self) -> None:
        """Ends; what is being fetched is fetched anew by the next server."""
        self._web.stop()
        self._loop.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        try:
            repository.release_documents_of(self._service.db, self._owner)
        except ThresherError as error:  # their leases end by themselves
            log.warning("documents not given back", error=type(error).__name__, reason=own_words(error))

    def _look(self) -> None:
        db = self._service.db
        if time.monotonic() - self._renewed > self._lease / 4:
            repository.renew_documents(db, self._owner, self._lease)
            self._renewed = time.monotonic()
        repository.recover_documents(db, is_dead)
        self._in_hand = {future for future in self._in_hand if not future.done()}
        for claimed in repository.claim_documents(db, self._owner, self._at_once - len(self._in_hand), self._lease):
            self._in_hand.add(self._pool.submit(self._begin, claimed))
        if repository.finish_batches(db):
            self._service.bells.deliveries.set()

    # -- a document's thread --------------------------------------------------------------------------------

    def _begin(self, claimed: ClaimedDocument) -> None:
        service = self._service
        try:
            options = RunOptionsIn.of_json(claimed.batch.options).options()
            source = self._source(claimed)
            new = announced(service, source, options, claimed.name)
            if repository.begin_run(service.db, service.store, claimed, source.source_id, new):
                service.host.wake()
        except (DatabaseUnavailable, StorageFailed) as error:  # it is taken again when its lease is over
            log.warning("document left for later", error=type(error).__name__, reason=own_words(error))
        except (ThresherError, OSError) as error:
            self._fail(claimed, error)
        except Exception as error:
            log.exception("document not begun", batch_id=claimed.batch.batch_id, number=claimed.number)
            self._fail(claimed, error)
        finally:
            service.bells.batches.set()

    def _fail(self, claimed: ClaimedDocument, error: Exception) -> None:
        delay = self._retry.delay(error, claimed.attempts, claimed.attempts)
        retry_at = None if delay is None else datetime.now(UTC) + timedelta(seconds=delay)
        message = str(error) if isinstance(error, ThresherError) else "This is a defect of ours: see the server's log."
        try:
            repository.fail_document(self._service.db, claimed, (type(error).__name__, message), retry_at)
        except ThresherError as failure:
            log.warning("document left for later", error=type(failure).__name__, reason=own_words(failure))

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
