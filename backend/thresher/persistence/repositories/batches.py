"""Batches as rows: many documents that are read in the same way, and how far each is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.core.errors import NotFound, StateConflict
from thresher.core.jobs import DocumentStatus
from thresher.engine.work import ENDED, Counts, NewRun, Priority, RunRequest, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories import run_requests
from thresher.persistence.repositories.deliveries import Subject, add_deliveries, tell_again
from thresher.persistence.repositories.run_queue import requeue
from thresher.persistence.repositories.sortable_ids import SortableIds
from thresher.persistence.repositories.sources import telling_of_lost_source
from thresher.persistence.repositories.statements import ITEMS, NODE_FACTS, RUNS
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.repositories.workspace_runs import Page, RunProgress
from thresher.persistence.tables import BatchDocumentRow, BatchRow

BATCHES: Final[sa.Table] = sa.Table(BatchRow.__tablename__, BatchRow.metadata)
DOCUMENTS: Final[sa.Table] = sa.Table(BatchDocumentRow.__tablename__, BatchDocumentRow.metadata)
_batch, _document, _run = BATCHES.c, DOCUMENTS.c, RUNS.c
_ids = SortableIds("b")
_ENDED = tuple(status.value for status in ENDED)
_TOGETHER = 50  # runs that are asked something in one transaction: others write, too
_NOT_READ: Final = (DocumentStatus.DUPLICATE, DocumentStatus.BEGUN)  # BEGUN without a run: that was deleted
_FREE: Final = {"owner": None, "lease_until": None}


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document of a batch to be: at an address, or one that is kept; with an error it has failed already."""

    name: str
    url: str | None = None
    source_id: str | None = None
    duplicate_of: int | None = None
    error_class: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be. ``options``: of each run, as JSON; ``max_bytes``: of each document that is fetched.

    ``notify``: names of channels that are told of its end.
    """

    workspace: str
    documents: Sequence[NewDocument]
    options: Mapping[str, Any]
    max_bytes: int
    priority: Priority = Priority.NORMAL
    name: str | None = None
    template: str | None = None
    schedule_id: str | None = None
    notify: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is stored. ``requested``: what it was asked to do, until it is resumed."""

    batch_id: str
    workspace: str
    name: str | None
    template: str | None
    priority: Priority
    options: Mapping[str, Any]
    max_bytes: int
    requested: RunRequest | None
    schedule_id: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """Documents by how far they are; they add up to ``total``. ``deleted``: their run was deleted."""

    waiting: int = 0
    fetching: int = 0
    pending: int = 0
    running: int = 0
    paused: int = 0
    succeeded: int = 0
    partial: int = 0
    failed: int = 0
    cancelled: int = 0
    duplicate: int = 0
    deleted: int = 0

    @property
    def total(self) -> int:
        """All documents."""
        return sum(asdict(self).values())

    @property
    def open(self) -> int:
        """Documents of which something is still to be done."""
        return self.waiting + self.fetching + self.pending + self.running + self.paused

    def status(self, requested: RunRequest | None) -> RunStatus:
        """The state of a batch that was asked to do something: law 6 holds for it as for a run."""
        if self.open:
            return self._while_open(requested)
        if self.cancelled and (requested is RunRequest.CANCEL or not (self.succeeded or self.partial or self.failed)):
            return RunStatus.CANCELLED
        if not (self.partial or self.failed or self.cancelled):
            return RunStatus.SUCCEEDED
        return RunStatus.PARTIAL if self.succeeded or self.partial else RunStatus.FAILED

    def _while_open(self, requested: RunRequest | None) -> RunStatus:
        if not (self.running or self.fetching) and (requested or self.paused == self.open):
            return RunStatus.PAUSED
        has_begun = self.open < self.total - self.duplicate or self.running or self.fetching
        return RunStatus.RUNNING if has_begun else RunStatus.PENDING


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is: its documents, and the nodes and facts of all its runs."""

    documents: DocumentCounts = field(default_factory=DocumentCounts)
    runs: RunProgress = field(default_factory=RunProgress)


@dataclass(frozen=True, slots=True)
class BatchMembers:
    """The documents of a batch at one moment: each counts once, whatever begins meanwhile.

    ``runs``: the state of each run, in the order of the documents; ``others``: documents without one, by how far they
    are. Duplicates, and documents whose run was deleted, are in neither.
    """

    runs: Mapping[str, RunStatus]
    others: Mapping[DocumentStatus, int]


@dataclass(frozen=True, slots=True)
class BatchDocument:
    """A document of a batch. ``run_status`` None: it has no run."""

    batch_id: str
    number: int
    url: str | None
    name: str
    source_id: str | None
    run_id: str | None
    duplicate_of: int | None
    status: DocumentStatus
    attempts: int
    error_class: str | None
    error_message: str | None
    run_status: RunStatus | None

    @property
    def state(self) -> str:
        """How far it is, in one word: that of its run where it has one."""
        if self.status is DocumentStatus.BEGUN:
            return "deleted" if self.run_status is None else self.run_status.value
        return self.status.value


@dataclass(frozen=True, slots=True)
class ClaimedDocument:
    """A document that this process is to begin a run of."""

    batch: Batch
    number: int
    url: str | None
    name: str
    source_id: str | None
    attempts: int
    owner: str


def create_batch(db: ThreadSafeDatabaseManager, new: NewBatch) -> Batch:
    """Stores a batch with all its documents."""
    batch_id = db.write_with_lock(lambda session: add_batch(session, new, datetime.now(UTC)))
    return get_batch(db, batch_id)


def add_batch(session: Session, new: NewBatch, now: datetime) -> str:
    """The same within a unit of the caller's; returns the batch's identifier."""
    batch_id = _ids.new(now)
    connection = session.connection()
    connection.execute(
        BATCHES.insert(),
        {
            "id": batch_id,
            "workspace": new.workspace,
            "name": new.name,
            "template": new.template,
            "priority": int(new.priority),
            "options": new.options,
            "max_bytes": new.max_bytes,
            "schedule_id": new.schedule_id,
            "created_at": now,
        },
    )
    rows = [
        {**asdict(document), "batch_id": batch_id, "number": number, "status": _at_first(document).value, "attempts": 0}
        for number, document in enumerate(new.documents, 1)
    ]
    connection.execute(DOCUMENTS.insert().inline(), rows)
    add_deliveries(session, new.workspace, new.notify, now, Subject(batch_id=batch_id))
    return batch_id


def get_batch(db: ThreadSafeDatabaseManager, batch_id: str) -> Batch:
    """A batch by its identifier.

    Raises:
        NotFound: there is none.
    """
    with db.read() as session:
        row = session.execute(sa.select(BATCHES).where(_batch.id == batch_id)).one_or_none()
    if row is None:
        raise NotFound(f"No batch is named {batch_id!r}.")
    return _batch_of(row)


def list_batches(db: ThreadSafeDatabaseManager, workspace: str, page: Page) -> Sequence[Batch]:
    """A page of the batches of a workspace, in the order of their creation."""
    query = sa.select(BATCHES).where(_batch.workspace == workspace).limit(page.limit)
    query = query.order_by(_batch.id.desc() if page.newest_first else _batch.id)
    if page.after is not None:
        query = query.where(_batch.id < page.after if page.newest_first else _batch.id > page.after)
    with db.read() as session:
        return [_batch_of(row) for row in session.execute(query)]


def progress_of_batches(db: ThreadSafeDatabaseManager, batch_ids: Sequence[str]) -> Mapping[str, BatchProgress]:
    """How far several batches are."""
    mine = _document.batch_id.in_(batch_ids)
    states = sa.select(_document.batch_id, _document.status, _run.status, sa.func.count()).where(mine)
    states = states.join_from(DOCUMENTS, RUNS, _run.id == _document.run_id, isouter=True)
    nodes = sa.select(_document.batch_id, ITEMS.c.status, sa.func.count()).where(mine)
    nodes = nodes.join_from(DOCUMENTS, ITEMS, ITEMS.c.run_id == _document.run_id)
    facts = sa.select(_document.batch_id, sa.func.count()).where(mine).group_by(_document.batch_id)
    facts = facts.join_from(DOCUMENTS, NODE_FACTS, NODE_FACTS.c.run_id == _document.run_id)
    documents: dict[str, dict[str, int]] = {batch_id: {} for batch_id in batch_ids}
    items: dict[str, dict[str, int]] = {batch_id: {} for batch_id in batch_ids}
    with db.read() as session:
        for batch_id, status, of_run, count in session.execute(
            states.group_by(_document.batch_id, _document.status, _run.status)
        ):
            state = (of_run or "deleted") if status == DocumentStatus.BEGUN else status
            documents[batch_id][state] = documents[batch_id].get(state, 0) + count
        for batch_id, status, count in session.execute(nodes.group_by(_document.batch_id, ITEMS.c.status)):
            items[batch_id][status] = count
        found: dict[str, int] = dict(map(tuple, session.execute(facts)))
    return {
        batch_id: BatchProgress(
            DocumentCounts(**documents[batch_id]),
            RunProgress(Counts(**items[batch_id]), found.get(batch_id, 0)),
        )
        for batch_id in batch_ids
    }


def list_documents(
    db: ThreadSafeDatabaseManager, batch_id: str, limit: int, after: int = 0, states: Collection[str] = ()
) -> Sequence[BatchDocument]:
    """A page of the documents of a batch in the order in which they were given, behind the one of number ``after``.

    ``states``: only those that are so far, see ``BatchDocument.state``.
    """
    run_status = sa.case((_document.run_id.is_not(None), _run.status))
    state = sa.case(
        (_document.status != DocumentStatus.BEGUN.value, _document.status),
        else_=sa.func.coalesce(run_status, "deleted"),
    )
    query = sa.select(*(_document[name] for name in _DOCUMENT_COLUMNS), run_status)
    query = query.join_from(DOCUMENTS, RUNS, _run.id == _document.run_id, isouter=True)
    query = query.where(_document.batch_id == batch_id, _document.number > after)
    if states:
        query = query.where(state.in_(list(states)))
    with db.read() as session:
        return [_document_of(row) for row in session.execute(query.order_by(_document.number).limit(limit))]


# -- what servers do ----------------------------------------------------------------------------------------


def claim_documents(db: ThreadSafeDatabaseManager, owner: str, limit: int, lease: float) -> Sequence[ClaimedDocument]:
    """Leases up to ``limit`` waiting documents for ``lease`` seconds: by priority, then as they were given."""
    now = datetime.now(UTC)
    due = sa.or_(_document.next_attempt_at.is_(None), _document.next_attempt_at <= now)
    waiting = (
        sa.select(_document.batch_id, _document.number)
        .join_from(DOCUMENTS, BATCHES, _batch.id == _document.batch_id)
        .where(_document.status == DocumentStatus.WAITING.value, due, _batch.requested.is_(None))
        .order_by(_batch.priority, _batch.id, _document.number)
        .limit(limit)
    )
    with db.read() as session:
        if limit < 1 or session.execute(waiting.limit(1)).first() is None:  # as most times
            return ()

    def lease_them(session: Session) -> list[ClaimedDocument]:
        connection = session.connection()
        found = connection.execute(waiting.with_for_update(skip_locked=True, of=DOCUMENTS)).all()
        values = {
            "status": DocumentStatus.FETCHING.value,
            "owner": owner,
            "lease_until": now + timedelta(seconds=lease),
            "attempts": _document.attempts + 1,
            "next_attempt_at": None,
        }
        for batch_id, number in found:
            connection.execute(DOCUMENTS.update().where(*_is(batch_id, number)).values(values))
        return [_claimed(connection, batch_id, number, owner) for batch_id, number in found]

    return db.write_with_lock(lease_them)


def renew_documents(db: ThreadSafeDatabaseManager, owner: str, lease: float) -> None:
    """Extends all leases of ``owner`` to ``lease`` seconds from now."""
    until = datetime.now(UTC) + timedelta(seconds=lease)
    renewed = DOCUMENTS.update().where(_document.owner == owner).values(lease_until=until)
    db.write_with_lock(lambda session: session.connection().execute(renewed) and None)


def recover_documents(db: ThreadSafeDatabaseManager, is_dead: Callable[[str], bool]) -> None:
    """Frees documents whose lease is over, or whose owner is dead."""
    held = sa.select(_document.owner, sa.func.min(_document.lease_until, type_=_document.lease_until.type))
    held = held.where(_document.owner.is_not(None)).group_by(_document.owner)
    now = datetime.now(UTC)
    with db.read() as session:
        owners = [(str(owner), until) for owner, until in session.execute(held)]
    dead = [owner for owner, _until in owners if is_dead(owner)]
    if dead or any(until <= now for _owner, until in owners):
        lost = sa.or_(_document.owner.in_(dead), _document.lease_until <= now)
        release_documents(db, lost)


def release_documents(db: ThreadSafeDatabaseManager, which: sa.ColumnElement[bool]) -> None:
    """Gives documents back that nobody has begun a run of."""
    freed = DOCUMENTS.update().where(_document.owner.is_not(None), which)
    freed = freed.values(status=DocumentStatus.WAITING.value, **_FREE)
    db.write_with_lock(lambda session: session.connection().execute(freed) and None)


def release_documents_of(db: ThreadSafeDatabaseManager, owner: str) -> None:
    """Gives back all documents that ``owner`` has in hand."""
    release_documents(db, _document.owner == owner)


def begin_run(
    db: ThreadSafeDatabaseManager, store: SqlStore, claimed: ClaimedDocument, source_id: str, new: NewRun
) -> str | None:
    """Stores and queues the run of a document, in one transaction with the document's own end; returns its identifier.

    None where the document is no longer held, or its batch was asked to stop meanwhile.

    Raises:
        NotFound: what was to be read was deleted meanwhile.
    """

    def write(session: Session) -> str | None:
        connection = session.connection()
        asked = sa.select(_batch.requested).where(_batch.id == claimed.batch.batch_id).with_for_update()
        row = connection.execute(asked).one_or_none()
        if row is None:
            return None
        if row.requested is not None:
            stopped = DocumentStatus.CANCELLED if row.requested == RunRequest.CANCEL else DocumentStatus.WAITING
            _end(connection, claimed, status=stopped.value, source_id=source_id)
            return None
        if not _end(connection, claimed, status=DocumentStatus.BEGUN.value, source_id=source_id):
            return None
        run_id = store.add_run(session, new, queued=True)
        update = DOCUMENTS.update().where(*_is(claimed.batch.batch_id, claimed.number))
        connection.execute(update.values(run_id=run_id, error_class=None, error_message=None))
        return run_id

    with telling_of_lost_source(source_id):
        return db.write_with_lock(write)


def fail_document(
    db: ThreadSafeDatabaseManager, claimed: ClaimedDocument, error: tuple[str, str], retry_at: datetime | None
) -> None:
    """Says why a document cannot be read: it waits until ``retry_at``, or (None) until somebody retries it."""
    status = DocumentStatus.FAILED if retry_at is None else DocumentStatus.WAITING
    values = {"status": status.value, "error_class": error[0], "error_message": error[1], "next_attempt_at": retry_at}
    db.write_with_lock(lambda session: _end(session.connection(), claimed, **values) and None)


def finish_batches(db: ThreadSafeDatabaseManager) -> Sequence[str]:
    """Notes which batches have ended: nothing of them is open any more; returns their identifiers."""
    run_is_open = sa.and_(_document.status == DocumentStatus.BEGUN.value, _run.status.not_in(_ENDED))
    is_open = (
        sa.select(_document.number)
        .join_from(DOCUMENTS, RUNS, _run.id == _document.run_id, isouter=True)
        .where(_document.batch_id == _batch.id)
        .where(sa.or_(_document.status.in_([DocumentStatus.WAITING.value, DocumentStatus.FETCHING.value]), run_is_open))
        .correlate(BATCHES)
    )
    done = (_batch.finished_at.is_(None), ~is_open.exists())
    with db.read() as session:
        if session.execute(sa.select(_batch.id).where(*done).limit(1)).first() is None:
            return ()
    finish = BATCHES.update().where(*done).values(finished_at=datetime.now(UTC)).returning(_batch.id)
    return db.write_with_lock(lambda session: list(session.connection().execute(finish).scalars()))


# -- what people ask ----------------------------------------------------------------------------------------


def ask_batch(db: ThreadSafeDatabaseManager, batch_id: str, request: RunRequest) -> None:
    """Asks a batch to pause or to be cancelled: no run of it begins any more, those that have are asked the same.

    Raises:
        StateConflict: it has ended, or it is being cancelled and was to pause.
    """
    waiting = (_document.batch_id == batch_id) & (_document.status == DocumentStatus.WAITING.value)

    def ask(session: Session) -> None:
        connection = session.connection()
        row = connection.execute(sa.select(BATCHES).where(_batch.id == batch_id).with_for_update()).one()
        if row.finished_at is not None:
            raise StateConflict(f"Batch {batch_id} has ended already.")
        if row.requested == RunRequest.CANCEL and request is RunRequest.PAUSE:
            raise StateConflict(f"Batch {batch_id} is being cancelled: it cannot be paused any more.")
        connection.execute(BATCHES.update().where(_batch.id == batch_id).values(requested=request.value))
        if request is RunRequest.CANCEL:
            connection.execute(DOCUMENTS.update().where(waiting).values(status=DocumentStatus.CANCELLED.value))

    db.write_with_lock(ask)
    now = datetime.now(UTC)

    def ask_one(session: Session, run_id: str) -> None:
        run_requests.ask(session, run_id, request, now)

    _with_each(db, runs_of_batch(db, batch_id, frozenset(RunStatus) - ENDED), ask_one)


def resume_batch(db: ThreadSafeDatabaseManager, batch_id: str) -> None:
    """Goes on with a batch that was paused, and with all its runs that are.

    Raises:
        StateConflict: it has ended, or is being cancelled.
    """

    def withdraw(session: Session) -> None:
        connection = session.connection()
        row = connection.execute(sa.select(BATCHES).where(_batch.id == batch_id).with_for_update()).one()
        if row.finished_at is not None:
            raise StateConflict(f"Batch {batch_id} has ended: retry it, where something of it has failed.")
        if row.requested == RunRequest.CANCEL:
            raise StateConflict(f"Batch {batch_id} is being cancelled. Retry it with `cancelled` when it is.")
        connection.execute(BATCHES.update().where(_batch.id == batch_id).values(requested=None))

    db.write_with_lock(withdraw)
    now = datetime.now(UTC)

    def resume(session: Session, run_id: str) -> None:
        run_requests.withdraw(session, run_id)
        requeue(session.connection(), run_id, now)

    stopped = _run.requested.is_not(None) | (_run.status == RunStatus.PAUSED.value)
    _with_each(db, runs_of_batch(db, batch_id, frozenset(RunStatus) - ENDED, stopped), resume)


def retry_documents(db: ThreadSafeDatabaseManager, batch_id: str, *, cancelled: bool, reopen: bool = False) -> int:
    """Has documents without a run fetched again that have failed (and cancelled ones); the batch is open again.

    Returns how many there are. Where there are none nothing is changed, unless ``reopen`` says that runs go on.
    """
    states = [DocumentStatus.FAILED.value, *((DocumentStatus.CANCELLED.value,) if cancelled else ())]
    chosen = (_document.batch_id == batch_id) & _document.status.in_(states)
    fresh = {"status": DocumentStatus.WAITING.value, "attempts": 0, "next_attempt_at": None}

    def write(session: Session) -> int:
        connection = session.connection()
        count = connection.execute(DOCUMENTS.update().where(chosen).values(fresh)).rowcount
        if count or reopen:
            reopened = BATCHES.update().where(_batch.id == batch_id).values(requested=None, finished_at=None)
            connection.execute(reopened)
            tell_again(session, datetime.now(UTC), Subject(batch_id=batch_id))
        return count

    return db.write_with_lock(write)


def reopen_batch_of(db: ThreadSafeDatabaseManager, run_id: str) -> None:
    """A batch whose run goes on has not ended, whatever was said of it: those who were told are told again."""
    mine = sa.select(_document.batch_id).where(_document.run_id == run_id)
    ended = sa.select(_batch.id).where(_batch.id.in_(mine), _batch.finished_at.is_not(None))

    def reopen(session: Session) -> None:
        connection = session.connection()
        for batch_id in connection.execute(ended).scalars().all():
            connection.execute(BATCHES.update().where(_batch.id == batch_id).values(finished_at=None))
            tell_again(session, datetime.now(UTC), Subject(batch_id=batch_id))

    db.write_with_lock(reopen)


def runs_of_batch(
    db: ThreadSafeDatabaseManager,
    batch_id: str,
    statuses: Collection[RunStatus],
    condition: sa.ColumnElement[bool] | None = None,
) -> Sequence[str]:
    """The runs of a batch that are in one of these states, in the order of its documents."""
    query = sa.select(_run.id).join_from(DOCUMENTS, RUNS, _run.id == _document.run_id)
    query = query.where(_document.batch_id == batch_id, _run.status.in_([status.value for status in statuses]))
    if condition is not None:
        query = query.where(condition)
    with db.read() as session:
        return session.scalars(query.order_by(_document.number)).all()


def members_of_batch(db: ThreadSafeDatabaseManager, batch_id: str) -> BatchMembers:
    """What has become of the documents of a batch.

    Raises:
        NotFound: it was deleted.
    """
    query = sa.select(_document.status, _run.id, _run.status).where(_document.batch_id == batch_id)
    query = query.join_from(DOCUMENTS, RUNS, _run.id == _document.run_id, isouter=True).order_by(_document.number)
    runs: dict[str, RunStatus] = {}
    others: Counter[DocumentStatus] = Counter()
    with db.read() as session:
        rows = session.execute(query).all()  # one statement: of one moment
    if not rows:
        raise NotFound(f"No batch is named {batch_id!r}.")
    for status, run_id, of_run in rows:
        if run_id is not None:
            runs[run_id] = RunStatus(of_run)
        elif status not in _NOT_READ:
            others[DocumentStatus(status)] += 1
    return BatchMembers(runs, others)


def batch_of_run(db: ThreadSafeDatabaseManager, run_id: str) -> str | None:
    """The batch that a run belongs to; None: it was begun by itself."""
    query = sa.select(_document.batch_id).where(_document.run_id == run_id)
    with db.read() as session:
        batch_id: str | None = session.execute(query).scalar_one_or_none()
    return batch_id


def delete_batch(db: ThreadSafeDatabaseManager, batch_id: str) -> None:
    """Deletes a batch; its runs stay."""
    delete = BATCHES.delete().where(_batch.id == batch_id)
    db.write_with_lock(lambda session: session.connection().execute(delete) and None)


def _with_each(db: ThreadSafeDatabaseManager, run_ids: Sequence[str], act: Callable[[Session, str], None]) -> None:
    """Does something with each run, some in one transaction; one whose state does not allow it is passed over."""

    def act_on(session: Session, some: Sequence[str]) -> None:
        for run_id in some:
            try:
                act(session, run_id)
            except (StateConflict, NotFound):  # raised before anything is written; it has ended meanwhile
                continue

    for start in range(0, len(run_ids), _TOGETHER):
        some = run_ids[start : start + _TOGETHER]
        db.write_with_lock(lambda session, some=some: act_on(session, some))  # type: ignore[misc]


def _at_first(document: NewDocument) -> DocumentStatus:
    if document.error_class is not None:
        return DocumentStatus.FAILED
    return DocumentStatus.WAITING if document.duplicate_of is None else DocumentStatus.DUPLICATE


def _is(batch_id: str, number: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (_document.batch_id == batch_id, _document.number == number)


def _end(connection: sa.Connection, claimed: ClaimedDocument, **values: object) -> bool:
    """Writes how a claim has ended, unless it was lost meanwhile; says whether it did."""
    held = (*_is(claimed.batch.batch_id, claimed.number), _document.owner == claimed.owner)
    return connection.execute(DOCUMENTS.update().where(*held).values(**values, **_FREE)).rowcount > 0


def _claimed(connection: sa.Connection, batch_id: str, number: int, owner: str) -> ClaimedDocument:
    document = connection.execute(sa.select(DOCUMENTS).where(*_is(batch_id, number))).one()
    batch = connection.execute(sa.select(BATCHES).where(_batch.id == batch_id)).one()
    return ClaimedDocument(
        _batch_of(batch), number, document.url, document.name, document.source_id, document.attempts, owner
    )


def _batch_of(row: sa.Row[Any]) -> Batch:
    named = ("workspace", "name", "template", "options", "max_bytes", "schedule_id", "created_at", "finished_at")
    return Batch(
        batch_id=row.id,
        priority=Priority(row.priority),
        requested=None if row.requested is None else RunRequest(row.requested),
        **{name: getattr(row, name) for name in named},
    )


_DOCUMENT_COLUMNS = tuple(name for name in BatchDocument.__dataclass_fields__ if name != "run_status")


def _document_of(row: Sequence[Any]) -> BatchDocument:
    values: dict[str, Any] = dict(zip(BatchDocument.__dataclass_fields__, row, strict=True))
    values["status"] = DocumentStatus(values["status"])
    values["run_status"] = None if values["run_status"] is None else RunStatus(values["run_status"])
    return BatchDocument(**values)
