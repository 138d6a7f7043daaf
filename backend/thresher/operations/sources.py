"""Documents that people upload: kept once, deleted with their last run or when nobody has used them for long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from thresher.bootstrap import Service
from thresher.core.errors import StateConflict, UnsupportedDocument
from thresher.core.logging import get_logger
from thresher.operations.loops import Loop
from thresher.persistence.repositories.sources import (
    Source,
    forget_source,
    forget_unused_since,
    get_source,
    is_referred_to,
    note_use,
    remember_source,
    unknown_source,
)
from thresher.persistence.source_files import Incoming
from thresher.workflows.discovery.subtrees import Limits, SourceDocument

log = get_logger(__name__)

CLEAN_EVERY = 3600.0  # seconds


def keep_source(service: Service, workspace: str, incoming: Incoming, name: str) -> Source:
    """Keeps a document that was received; an equal one is stored once. The row comes first, see ``drop_file``."""
    source = remember_source(service.db, workspace, incoming.sha256, name, incoming.size)
    service.files.keep(incoming)
    return source


def check_kind(incoming: Incoming, name: str, limits: Limits) -> None:
    """Looks at the first bytes of a document, whether all of it is there or not.

    Raises:
        UnsupportedDocument: it is no XML.
        BadInput: it is empty, or its encoding cannot be told.
    """
    document = SourceDocument.open(incoming.path, limits, name)
    begin = next((text for chunk in document.utf8_chunks() if (text := chunk.lstrip())), b"")
    if not begin.startswith(b"<"):
        raise UnsupportedDocument(f"{name} is no XML: it does not begin with `<`.")


def find_source(service: Service, workspace: str, source_id: str) -> Source:
    """A document of a workspace.

    Raises:
        NotFound: the workspace has none of this name.
    """
    source = get_source(service.db, source_id)
    if source.workspace != workspace:
        raise unknown_source(source_id)
    return source


def use_source(service: Service, workspace: str, source_id: str) -> Source:
    """A document of a workspace that somebody is about to read: it counts as used now.

    Raises:
        NotFound: the workspace has none of this name, or its file is gone.
    """
    source = find_source(service, workspace, source_id)
    service.files.find(source.sha256, source.name)
    note_use(service.db, source_id)
    return source


def delete_source(service: Service, source: Source) -> None:
    """Deletes a document that no run refers to, nor a schedule.

    Raises:
        StateConflict: one does.
    """
    if not forget_source(service.db, source.source_id):
        raise StateConflict(
            f"Document {source.source_id} has runs or is scheduled: delete these first, it goes with its last run."
        )
    drop_file(service, source.sha256)


def drop_source_without_runs(service: Service, source_id: str) -> None:
    """Deletes a document whose last run has gone; leaves one alone that has others."""
    source = get_source(service.db, source_id)
    if forget_source(service.db, source_id):
        drop_file(service, source.sha256)


def drop_file(service: Service, sha256: str) -> None:
    """Deletes the bytes of a document that no workspace has any more.

    An upload of equal bytes may come at any moment, here or on another server. It writes its row, then its file; this
    takes the file away, then looks for rows. So either the row is seen, or the upload puts a file of its own in place.
    """
    removal = service.files.take_away(sha256)
    if is_referred_to(service.db, sha256):
        removal.undo()
    else:
        removal.delete()


def drop_old_sources(service: Service) -> int:
    """Deletes the documents that nobody has used for ``SOURCE_RETENTION_DAYS``; returns how many."""
    before = datetime.now(UTC) - timedelta(days=service.settings.source_retention_days)
    gone = forget_unused_since(service.db, before)
    for source in gone:
        drop_file(service, source.sha256)
    return len(gone)


def retention(service: Service) -> Loop:
    """Deletes old documents once in a while."""

    def clean() -> None:
        if gone := drop_old_sources(service):
            log.info("documents deleted", documents=gone)

    return Loop("retention", clean, CLEAN_EVERY)
