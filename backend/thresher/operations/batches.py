"""Batches: many documents that are read in the same way, each by a run of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from thresher.bootstrap import Service
from thresher.core.errors import BadInput, NotFound, StateConflict
from thresher.engine.work import ENDED, RunRequest, RunStatus
from thresher.integrations.web import check_address, name_of, normalised
from thresher.operations import runs
from thresher.operations.run_options import RunOptionsIn
from thresher.operations.sources import find_source, keep_source
from thresher.operations.uploads import Part
from thresher.persistence.repositories import batches as repository
from thresher.persistence.repositories.batches import Batch, NewBatch, NewDocument
from thresher.persistence.repositories.deliveries import check_channels
from thresher.persistence.repositories.items import Chosen
from thresher.persistence.repositories.node_facts import FactFilter, stream_facts
from thresher.persistence.repositories.templates import get_template
from thresher.workflows.discovery.fact_files import FORMATS, Format, as_csv

MOST_DOCUMENTS = 1_000
_PAGE = 200
_BEFORE = ("document_number", "document")
RESULT_FORMATS: Final[Mapping[str, Format]] = {**FORMATS, "csv": partial(as_csv, before=_BEFORE)}
"""As the facts of a run, each with the number and the name of its document."""


@dataclass(frozen=True, slots=True)
class BatchWish:
    """What is wanted: documents, how they are to be read (as kept by ``RunOptionsIn.to_json``), what it is called.

    ``template``: the name of one, over whose options these win.
    ``max_bytes``: of each document that is fetched; None: as the server is set.
    """

    workspace: str
    documents: Sequence[NewDocument]
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    template: str | None = None
    max_bytes: int | None = None


def submit(service: Service, wish: BatchWish) -> Batch:
    """Begins a batch: it is stored, all that takes long happens in the background.

    A document that stands there twice is read once: the second one points at the first.

    Raises:
        BadInput: there are none or too many, an address is none, or the options cannot be used.
        NotFound: a document is not kept in this workspace, or there is no such template or channel.
    """
    new = announced(service, wish)
    check_channels(service.db, new.workspace, new.notify)
    batch = repository.create_batch(service.db, new)
    service.bells.batches.set()
    return batch


def announced(service: Service, wish: BatchWish) -> NewBatch:
    """The batch that is to be stored; see ``submit``."""
    if not 1 <= len(wish.documents) <= MOST_DOCUMENTS:
        raise BadInput(f"A batch has 1 to {MOST_DOCUMENTS:,} documents, not {len(wish.documents):,}.")
    template = get_template(service.db, wish.workspace, wish.template) if wish.template else None
    options = RunOptionsIn.of_json(template.options if template else {}, wish.options)
    return NewBatch(
        workspace=wish.workspace,
        documents=_with_duplicates(checked(service, wish.workspace, wish.documents)),
        options=options.to_json(),
        max_bytes=wish.max_bytes or service.settings.max_upload_bytes,
        priority=options.options().priority,
        name=wish.name,
        template=template.name if template else None,
        notify=options.notify,
    )


def kept_document(service: Service, workspace: str, part: Part) -> NewDocument:
    """A document that was uploaded, for a batch; one that cannot be used has failed already, and says why."""
    if part.error is not None:
        return NewDocument(part.name, error_class=type(part.error).__name__, error_message=str(part.error))
    return NewDocument(part.name, source_id=keep_source(service, workspace, part.document, part.name).source_id)


def checked(service: Service, workspace: str, documents: Sequence[NewDocument]) -> list[NewDocument]:
    """Documents that can be asked for, each with a name.

    Raises:
        BadInput: an address is none. NotFound: a document is not kept in this workspace.
    """
    found = []
    for document in documents:
        if document.url is not None:
            check_address(document.url)
            found.append(replace(document, name=document.name or name_of(document.url)))
        elif document.source_id is not None:
            source = find_source(service, workspace, document.source_id)
            found.append(replace(document, name=document.name or source.name))
        else:
            found.append(document)
    return found


def _with_duplicates(documents: Sequence[NewDocument]) -> list[NewDocument]:
    first: dict[str, int] = {}
    found = []
    for number, document in enumerate(documents, 1):
        key = document.source_id if document.url is None else normalised(document.url)
        same = number if key is None else first.setdefault(key, number)
        found.append(document if same == number else replace(document, duplicate_of=same))
    return found


def find_batch(service: Service, workspace: str, batch_id: str) -> Batch:
    """A batch of a workspace.

    Raises:
        NotFound: the workspace has none of this name, whether another one has or not.
    """
    batch = repository.get_batch(service.db, batch_id)
    if batch.workspace != workspace:
        raise NotFound(f"No batch is named {batch_id!r}.")
    return batch


def request(service: Service, batch: Batch, wanted: RunRequest) -> Batch:
    """Pauses or cancels a batch and its runs: nodes in hand are finished, nothing else starts.

    Raises:
        StateConflict: it has ended already, or is being cancelled and was to pause.
    """
    repository.ask_batch(service.db, batch.batch_id, wanted)
    service.bells.batches.set()
    return repository.get_batch(service.db, batch.batch_id)


def resume(service: Service, batch: Batch) -> Batch:
    """Goes on with a batch that was paused, and its paused runs.

    Raises:
        StateConflict: it has ended, or is being cancelled.
    """
    repository.resume_batch(service.db, batch.batch_id)
    service.host.wake()
    service.bells.batches.set()
    return repository.get_batch(service.db, batch.batch_id)


def retry(service: Service, batch: Batch, *, cancelled: bool) -> tuple[Batch, int]:
    """Tries again what has failed: documents that could not be fetched, runs that failed, nodes that did.

    ``cancelled``: what was cancelled, too. Returns how many documents there are.

    Raises:
        StateConflict: nothing has failed.
    """
    states = {RunStatus.FAILED, RunStatus.PARTIAL, *((RunStatus.CANCELLED,) if cancelled else ())}
    run_ids = repository.runs_of_batch(service.db, batch.batch_id, states)
    count = repository.retry_documents(service.db, batch.batch_id, cancelled=cancelled, reopen=bool(run_ids))
    count += sum(_retried(service, run_id, cancelled=cancelled) for run_id in run_ids)
    if not count:
        raise StateConflict(f"Batch {batch.batch_id} has nothing that has failed.")
    reopened = repository.get_batch(service.db, batch.batch_id)
    service.bells.batches.set()  # last: what is returned is the batch before it goes on
    return reopened, count


def _retried(service: Service, run_id: str, *, cancelled: bool) -> bool:
    """One run; whatever is the matter with it, the others are retried."""
    try:
        run = service.store.get_run(run_id)
        if run.status is RunStatus.FAILED and not service.store.counts(run_id).dead:
            runs.resume(service, run)
        else:
            runs.retry(service, run, Chosen(cancelled=cancelled))
    except (NotFound, StateConflict):
        return False
    return True


def delete(service: Service, batch: Batch) -> None:
    """Deletes a batch with its runs, and the documents that no other run has.

    Raises:
        StateConflict: something of it is open.
    """
    if repository.progress_of_batches(service.db, [batch.batch_id])[batch.batch_id].documents.open:
        raise StateConflict(f"Batch {batch.batch_id} has not ended: cancel it, then delete it.")
    for run_id in repository.runs_of_batch(service.db, batch.batch_id, ENDED):
        runs.delete(service, service.store.get_run(run_id))
    repository.delete_batch(service.db, batch.batch_id)


def stream_results(service: Service, batch: Batch, wanted: FactFilter) -> Iterator[dict[str, Any]]:
    """The facts of all runs in the order of the documents, in bounded memory; see ``stream_facts``.

    Each has ``document_number`` and ``document`` besides.
    """
    after = 0
    while page := repository.list_documents(service.db, batch.batch_id, _PAGE, after):
        for document in page:
            if document.run_id is not None:
                head = {"document_number": document.number, "document": document.name}
                for row in stream_facts(service.db, document.run_id, wanted):
                    yield {**head, **row}
        after = page[-1].number
