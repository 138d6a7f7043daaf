"""The rows of the documents that are kept: what they are called, whose they are, when they were used last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from thresher.core.errors import NotFound
from thresher.core.jobs import DocumentStatus
from thresher.engine.work import ENDED
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.sortable_ids import SortableIds
from thresher.persistence.repositories.statements import RUNS
from thresher.persistence.tables import BatchDocumentRow, ScheduledDocumentRow, SourceRow

SOURCES: Final[sa.Table] = sa.Table(SourceRow.__tablename__, SourceRow.metadata)
_source, _run = SOURCES.c, RUNS.c
_in_batch = sa.Table(BatchDocumentRow.__tablename__, BatchDocumentRow.metadata).c
_scheduled = sa.Table(ScheduledDocumentRow.__tablename__, ScheduledDocumentRow.metadata).c
_ids = SortableIds("d")


@dataclass(frozen=True, slots=True)
class Source:
    """A document that is kept. ``name``: what it was called when it was uploaded first."""

    source_id: str
    workspace: str
    sha256: str
    name: str
    size_bytes: int
    created_at: datetime
    used_at: datetime


def remember_source(db: ThreadSafeDatabaseManager, workspace: str, sha256: str, name: str, size_bytes: int) -> Source:
    """The row of a document: a new one, or that of the equal one which the workspace has already, used now."""
    now = datetime.now(UTC)
    known = (_source.workspace == workspace) & (_source.sha256 == sha256)

    def write(session: Session) -> Source:
        row = session.execute(sa.select(SOURCES).where(known).with_for_update()).one_or_none()
        if row is not None:
            session.execute(SOURCES.update().where(known).values(used_at=now))
            return replace(Source(*row), used_at=now)
        new = Source(_ids.new(now), workspace, sha256, name, size_bytes, now, now)
        session.execute(SOURCES.insert().values(_row(new)))
        return new

    return db.write_with_lock(write)


def get_source(db: ThreadSafeDatabaseManager, source_id: str) -> Source:
    """A document by its identifier.

    Raises:
        NotFound: there is none.
    """
    with db.read() as session:
        row = session.execute(sa.select(SOURCES).where(_source.id == source_id)).one_or_none()
    if row is None:
        raise unknown_source(source_id)
    return Source(*row)


def note_use(db: ThreadSafeDatabaseManager, source_id: str) -> None:
    """A document is used now.

    Raises:
        NotFound: there is none of this name.
    """
    used = SOURCES.update().where(_source.id == source_id).values(used_at=datetime.now(UTC))
    if not db.write_with_lock(lambda session: session.connection().execute(used).rowcount):
        raise unknown_source(source_id)


def unknown_source(source_id: str) -> NotFound:
    """The error for an identifier that no document has."""
    return NotFound(f"No document is named {source_id!r}.")


@contextmanager
def telling_of_lost_source(source_id: str | None) -> Iterator[None]:
    """Around the writing of a run of a document.

    Raises:
        NotFound: the document was deleted meanwhile.
    """
    try:
        yield
    except IntegrityError as error:
        if source_id is None:
            raise
        raise unknown_source(source_id) from error


def list_sources(
    db: ThreadSafeDatabaseManager, workspace: str, limit: int, before: str | None = None
) -> Sequence[Source]:
    """The newest documents of a workspace first; ``before`` is the last identifier of the page above."""
    query = sa.select(SOURCES).where(_source.workspace == workspace).order_by(_source.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_source.id < before)
    with db.read() as session:
        return [Source(*row) for row in session.execute(query)]


def forget_source(db: ThreadSafeDatabaseManager, source_id: str) -> bool:
    """Deletes the row of a document that has no run any more, and is to have none; says whether it did."""
    has_runs = sa.select(_run.id).where(_run.source_id == _source.id).exists()
    unused = SOURCES.delete().where(_source.id == source_id, ~has_runs, ~_is_awaited())
    return db.write_with_lock(lambda session: session.connection().execute(unused).rowcount) > 0


def forget_unused_since(db: ThreadSafeDatabaseManager, before: datetime) -> Sequence[Source]:
    """Deletes the rows of documents that were last used before a moment, and are in no open run, nor to be in one.

    Returns them. Their runs stay, without the document.
    """
    is_open = sa.select(_run.id).where(_run.source_id == _source.id, _run.status.not_in([s.value for s in ENDED]))
    old = SOURCES.delete().where(_source.used_at < before, ~is_open.exists(), ~_is_awaited()).returning(*_source)
    return db.write_with_lock(lambda session: [Source(*row) for row in session.connection().execute(old)])


def _is_awaited() -> sa.ColumnElement[bool]:
    """Whether a batch is about to read the document, or a schedule will."""
    open_states = [DocumentStatus.WAITING.value, DocumentStatus.FETCHING.value]
    in_batch = (_in_batch.source_id == _source.id) & _in_batch.status.in_(open_states)
    return sa.or_(
        sa.select(_in_batch.number).where(in_batch).correlate(SOURCES).exists(),
        sa.select(_scheduled.number).where(_scheduled.source_id == _source.id).correlate(SOURCES).exists(),
    )


def is_referred_to(db: ThreadSafeDatabaseManager, sha256: str) -> bool:
    """Whether any workspace has a document with these bytes."""
    with db.read() as session:
        return session.execute(sa.select(_source.id).where(_source.sha256 == sha256).limit(1)).first() is not None


def _row(source: Source) -> dict[str, object]:
    return {
        "id": source.source_id,
        "workspace": source.workspace,
        "sha256": source.sha256,
        "name": source.name,
        "size_bytes": source.size_bytes,
        "created_at": source.created_at,
        "used_at": source.used_at,
    }
