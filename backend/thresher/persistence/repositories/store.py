"""The engine's store over SQL: SQLite and PostgreSQL by the same statements."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.core.errors import BadInput, PermanentError
from thresher.engine.budget import Budget
from thresher.engine.shares import Asked, Drawn
from thresher.engine.work import (
    ENDED,
    AttemptRecord,
    AttemptStatus,
    Claim,
    Completion,
    Counts,
    Fallback,
    ItemSpec,
    ItemStatus,
    JsonObject,
    Mode,
    NewRun,
    Priority,
    Run,
    RunReport,
    RunRequest,
    RunStatus,
    Totals,
    Usage,
)
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.prepared import PreparedLookup, PreparedStatement
from thresher.persistence.repositories import budget_shares, run_requests
from thresher.persistence.repositories import statements as sql
from thresher.persistence.repositories.positions import decode_position, encode_position
from thresher.persistence.repositories.run_queue import enqueue
from thresher.persistence.repositories.sortable_ids import SortableIds
from thresher.persistence.repositories.sources import telling_of_lost_source
from thresher.persistence.tables import ItemRow, RunRow

WORKER_LOST = "WorkerLost"
_NEED_PAYLOAD = frozenset({ItemStatus.PENDING.value, ItemStatus.DEAD.value, ItemStatus.CANCELLED.value})  # may go on


@dataclass(frozen=True, slots=True)
class ItemRecords:
    """What one finished item yielded for the tables of its workflow, or attached; empty where it yielded nothing."""

    claim: Claim
    records: Sequence[JsonObject]


RecordWriter: TypeAlias = Callable[[sa.Connection, Sequence[ItemRecords]], None]
"""Writes the records of several finished items in the transaction that finishes them.

An item whose claim has ``attempt`` above 1 may have records of an earlier attempt: they are to be replaced. (Not so
what is attached, which is no result of the item.)
It runs in a unit of a group commit (see ``ThreadSafeDatabaseManager.write_batched``) and may be run twice.
"""


class _LeaseLost(Exception):
    """Raised within a batch of completions to have each of them run on its own."""


class SqlStore:
    """``thresher.engine.ports.Store`` over a database. All methods are safe to call from any thread.

    ``record_writers`` holds for each kind of run, and of attachment, who writes its rows. Leases and due times are told
    by ``clock``: processes on several machines must agree on the time to within a fraction of the lease.
    """

    def __init__(
        self,
        db: ThreadSafeDatabaseManager,
        record_writers: Mapping[str, RecordWriter],
        *,
        keep_payloads: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._db = db
        self._record_writers = dict(record_writers)
        self._keep_payloads = keep_payloads
        self._clock = clock
        self._run_ids = SortableIds("r")
        self._kinds: dict[str, str] = {}  # of the runs seen so far; a run's kind never changes
        dialect = db.engine.dialect
        self._finish = PreparedStatement(sql.FINISH, dialect)
        self._insert_payloads = PreparedStatement(sql.INSERT_PAYLOADS, dialect, ("item_id", "payload"))
        self._drop_payloads = PreparedStatement(sql.DROP_PAYLOADS, dialect)
        self._insert_attempts = PreparedStatement(sql.INSERT_ATTEMPTS, dialect, _ATTEMPT_COLUMNS)
        self._release = PreparedStatement(sql.RELEASE, dialect)
        self._begin = PreparedStatement(sql.BEGIN, dialect)
        self._insert_new_items = sql.insert_new_items(dialect.name)
        self._requested = PreparedLookup(sql.REQUESTED, dialect)
        self._sharing: set[str] = set()  # owners of a share of a budget
        self._listening_lock = Lock()  # protects _listening
        self._listening: dict[str, list[Callable[[RunRequest], None]]] = {}

    # Runs

    def create_run(self, new: NewRun, *, queued: bool = False) -> Run:
        """Stores a run as pending; ``queued`` in the same transaction, for a server to work on.

        Raises:
            NotFound: its document was deleted meanwhile.
        """
        with telling_of_lost_source(new.source_id):
            run_id = self._db.write_with_lock(lambda session: self.add_run(session, new, queued=queued))
        return self.get_run(run_id)

    def add_run(self, session: Session, new: NewRun, *, queued: bool = False) -> str:
        """The same within a unit of the caller's, who is ``telling_of_lost_source``; returns the run's identifier."""
        now = self._clock()
        row: dict[str, Any] = {
            "id": self._run_ids.new(now),
            **_columns(new),
            "status": RunStatus.PENDING.value,
            "planned": 0,
            "planning_complete": False,
            "elapsed_seconds": 0.0,
            "created_at": now,
        }

        connection = session.connection()
        connection.execute(sql.RUNS.insert(), row)
        if queued:
            enqueue(connection, row["id"], now)
        return str(row["id"])

    def settle_run(self, run_id: str, settled: NewRun) -> Run:
        """Writes what is settled of a run that was stored before its source was looked at; nothing of it is planned.

        Raises:
            NotFound: no run has this identifier.
        """
        self._update_run(run_id, _columns(settled))
        return self.get_run(run_id)

    def get_run(self, run_id: str) -> Run:
        """Returns a run.

        Raises:
            NotFound: no run has this identifier.
        """
        with self._db.read() as session:
            return run_of(_require_run(session, run_id))

    def find_run(self, prefix: str) -> Run:
        """Returns the one run whose identifier starts with ``prefix``, as a person may type it.

        Raises:
            NotFound: none does.
            BadInput: several do; the message names some.
        """
        wanted = prefix.strip().lower()
        # "~" sorts after every digit of an identifier, in ASCII as in natural collations' own terms of prefix below.
        matching = sa.select(RunRow).where(sa.func.substr(RunRow.id, 1, len(wanted)) == wanted)
        with self._db.read() as session:
            rows = session.scalars(matching.order_by(RunRow.id.desc()).limit(6)).all() if wanted else []
            exact = [row for row in rows if row.id == wanted]
            if not rows:
                raise run_requests.unknown_run(prefix)
            if len(rows) > 1 and not exact:
                names = ", ".join(row.id for row in rows[:5])
                raise BadInput(f"{prefix!r} names more than one run: {names}. Type more of it.")
            return run_of((exact or rows)[0])

    def list_runs(self, workspace: str | None = None, limit: int = 50, before: str | None = None) -> Sequence[Run]:
        """The newest runs first, of one workspace or of all; ``before`` is the last identifier of the page above."""
        query = sa.select(RunRow).order_by(RunRow.id.desc()).limit(limit)
        if workspace is not None:
            query = query.where(RunRow.workspace == workspace)
        if before is not None:
            query = query.where(RunRow.id < before)
        with self._db.read() as session:
            return [run_of(row) for row in session.scalars(query)]

    def set_run_status(self, run_id: str, status: RunStatus) -> None:
        """Moves a run to a state; the first move to RUNNING sets ``started_at``, every one clears ``error``.

        A run that is under way again has no ``finished_at``. One that is cancelled does not run: whoever has read that
        it has ended may rely on it until it is taken back (``retry_items``).

        Raises:
            NotFound: no run has this identifier.
            StateConflict: it was to run, and is cancelled.
        """
        values: dict[str, Any] = {"status": status.value, "error": None}
        if status in {RunStatus.PENDING, RunStatus.RUNNING, RunStatus.PAUSED}:
            values["finished_at"] = None
        if status is RunStatus.RUNNING:
            values["started_at"] = sa.func.coalesce(
                RunRow.started_at, sa.literal(self._clock(), RunRow.started_at.type)
            )

        def move(session: Session) -> None:
            if status is RunStatus.RUNNING:
                run_requests.require_not_cancelled(session, run_id)
            self._write_run(session, run_id, values)

        self._db.write_with_lock(move)

    def set_run_mode(self, run_id: str, mode: Mode, reason: str) -> None:
        """Says how the next session of a run works, and why.

        Raises:
            NotFound: no run has this identifier.
        """
        self._update_run(run_id, {"mode": mode.value, "mode_reason": reason})

    def set_fallbacks(self, run_id: str, fallbacks: Sequence[Fallback]) -> None:
        """Stores all fallbacks of a run so far.

        Raises:
            NotFound: no run has this identifier.
        """
        self._update_run(run_id, {"fallbacks": [dataclasses.asdict(fallback) for fallback in fallbacks]})

    def set_run_budget(self, run_id: str, budget: Budget | None) -> None:
        """Says what the next sessions of a run may spend, with what was spent before; None: as much as it takes.

        Raises:
            NotFound: no run has this identifier.
        """
        self._update_run(run_id, {"budget": None if budget is None else str(budget)})

    def open_share(self, run_id: str, owner: str, budget: Budget, lease: float) -> int:
        """Opens a session's share of a run's budget; returns what it begins with as spent.

        Raises:
            NotFound: no run has this identifier.
            StateConflict: others are at work that count in another unit, or keep no budget.
        """
        until = self._clock() + timedelta(seconds=lease)
        with self._db.transaction() as session:
            spent = budget_shares.open_share(session, run_id, owner, budget, until)
        self._sharing.add(owner)
        return spent

    def draw_share(self, run_id: str, owner: str, asked: Asked, lease: float) -> Drawn | None:
        """Takes more of a run's budget for a session, or gives back; None where its share is gone."""
        now = self._clock()
        with self._db.transaction() as session:
            return budget_shares.draw(session, run_id, owner, asked, now=now, until=now + timedelta(seconds=lease))

    def close_share(self, run_id: str, owner: str, spent: int) -> None:
        """Ends a session's share; ``spent`` in atoms. The last one writes what no attempt tells of to one of them."""
        self._sharing.discard(owner)
        with self._db.transaction() as session:
            budget_shares.close_share(session, run_id, owner, spent)

    def end_run(self, report: RunReport) -> None:
        """Stores how a session of a run ended, and settles what was asked of the run meanwhile.

        Raises:
            NotFound: no run has this identifier.
        """
        now = self._clock()
        values = {
            "status": report.status.value,
            "report": dataclasses.asdict(report) | {"speedup": report.speedup},
            "error": report.error,
            "fallbacks": [dataclasses.asdict(fallback) for fallback in report.fallbacks] or None,
            "elapsed_seconds": report.elapsed_seconds,
            "finished_at": now if report.status in ENDED else None,
        }
        if report.status in {RunStatus.SUCCEEDED, RunStatus.PARTIAL}:
            values["requested"] = None

        def write(session: Session) -> None:
            self._write_run(session, report.run_id, values)
            run_requests.settle(session, report.run_id, now)

        self._db.write_with_lock(write)

    # What is asked of a run

    def asked(self, run_id: str) -> RunRequest | None:
        """What the run is asked to do, for those who ask before each item; None also where there is no such run."""
        request = self._db.look_up(self._requested.execute, run_id)
        return None if request is None else RunRequest(request)

    def requested(self, run_id: str) -> RunRequest | None:
        """What the run is asked to do.

        Raises:
            NotFound: no run has this identifier.
        """
        query = sa.select(sql.RUNS.c.requested).where(sql.RUNS.c.id == run_id)
        with self._db.read() as session:
            row = session.execute(query).one_or_none()
        if row is None:
            raise run_requests.unknown_run(run_id)
        return None if row[0] is None else RunRequest(row[0])

    @contextmanager
    def telling_requests(self, run_id: str, tell: Callable[[RunRequest], None]) -> Iterator[None]:
        """While inside: ``tell`` hears of what the run is asked to do whenever one of its attempts is finished here.

        It is called by the thread that writes, and must be quick.
        """
        with self._listening_lock:
            self._listening.setdefault(run_id, []).append(tell)
        try:
            yield
        finally:
            with self._listening_lock:
                self._listening[run_id].remove(tell)
                if not self._listening[run_id]:
                    del self._listening[run_id]

    def request(self, run_id: str, request: RunRequest) -> Run:
        """Asks a run to pause or to be cancelled; returns it as it is then.

        No item of it is claimed any more. Where no item is running the run is paused or cancelled at once, in the
        same transaction; else the sessions that hold some do so when they have finished them.

        Raises:
            NotFound: no run has this identifier.
            StateConflict: it has ended, or it is being cancelled and was to pause.
        """
        now = self._clock()
        self._db.write_with_lock(lambda session: run_requests.ask(session, run_id, request, now))
        return self.get_run(run_id)

    def settle(self, run_id: str) -> RunRequest | None:
        """Does what the run is asked to do, as far as nobody's items are in the way; returns what that is."""
        now = self._clock()
        return self._db.write_with_lock(lambda session: run_requests.settle(session, run_id, now))

    def withdraw(self, run_id: str) -> None:
        """Takes back what was asked of a run, so that it can go on.

        Raises:
            StateConflict: the run is cancelled, or is being cancelled.
        """
        self._db.write_with_lock(lambda session: run_requests.withdraw(session, run_id))

    def leases(self, run_id: str) -> Mapping[str, datetime]:
        """Who holds items of a run, and until when the longest lease of each lasts."""
        item = sql.ITEMS.c
        running = (item.run_id == run_id) & (item.status == ItemStatus.RUNNING.value)
        until = sa.func.max(item.lease_until, type_=item.lease_until.type)
        query = sa.select(item.lease_owner, until).where(running).group_by(item.lease_owner)
        with self._db.read() as session:
            return dict(map(tuple, session.execute(query)))

    def finish_planning(self, run_id: str, details: JsonObject) -> None:
        """Marks the plan as complete and merges ``details`` into the run's.

        Raises:
            NotFound: no run has this identifier.
        """

        def merge(session: Session) -> None:
            row = _require_run(session, run_id)
            row.planning_complete = True
            row.details = {**row.details, **details}

        self._db.write_with_lock(merge)

    def _update_run(self, run_id: str, values: Mapping[str, Any]) -> None:
        self._db.write_with_lock(lambda session: self._write_run(session, run_id, values))

    def _write_run(self, session: Session, run_id: str, values: Mapping[str, Any]) -> None:
        update = sa.update(sql.RUNS).where(sql.RUNS.c.id == run_id).values(**values)
        if session.connection().execute(update).rowcount != 1:
            raise run_requests.unknown_run(run_id)

    # The way of an item

    def add_items(self, run_id: str, specs: Sequence[ItemSpec], planned: int, at: datetime | None = None) -> int:
        """Stores planned items, ignoring keys the run has already; returns how many were new.

        ``at``, the moment of a call, tells it from others: what is said twice with the same is as if it was said once,
        and is answered alike. The run's ``planned`` becomes ``planned`` unless it is larger already, so that planning
        goes on behind them.
        A run that is asked to cancel gets none of them, and its ``planned`` stays.

        Raises:
            NotFound: no run has this identifier.
        """
        if not specs:
            return 0
        further = sa.case((sql.RUNS.c.planned > planned, sql.RUNS.c.planned), else_=planned)
        moment = at or self._clock()
        is_open = sql.RUNS.c.requested.is_distinct_from(RunRequest.CANCEL.value)
        count = sa.update(sql.RUNS).where(sql.RUNS.c.id == run_id, is_open).values(planned=further)

        def insert(session: Session) -> int:
            connection = session.connection()
            if connection.execute(count).rowcount != 1:
                _require_run(session, run_id)
                return 0
            added = self._insert_items(connection, run_id, specs, moment)
            return added if at is None or added == len(specs) else _added_at(connection, run_id, specs, at)

        return self._db.write_with_lock(insert, is_bounded=True)

    def claim(self, run_id: str, owner: str, limit: int, lease: float) -> Sequence[Claim]:
        """Leases up to ``limit`` due pending items to ``owner`` for ``lease`` seconds, in order of position.

        Raises:
            NotFound: no run has this identifier.
        """
        kind = self._kind(run_id)
        now = self._clock()
        parameters = {
            "run_id_": run_id,
            "now": now,
            "limit_": limit,
            "owner": owner,
            "until": now + timedelta(seconds=lease),
        }

        def lease_rows(session: Session) -> list[Claim]:
            found = session.connection().execute(sql.CLAIM, parameters).all()
            rows = sorted(found, key=lambda row: (row[2], row[0]))
            return [_claim_of(tuple(row), run_id, kind, owner) for row in rows]

        return self._db.write_with_lock(lease_rows, is_bounded=True)

    def begin(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Writes that work on items begins which were lost before; returns those that are still held."""

        def mark(session: Session) -> list[Claim]:
            connection = session.connection()
            return [claim for claim in claims if self._begin.execute(connection, [_held(claim)])]

        return self._db.write_with_lock(mark)

    def finish(self, completion: Completion) -> bool:
        """Writes the end of an attempt in one transaction; False, with nothing written, where the lease was lost.

        Raises:
            PermanentError: the run's kind has records, or something is attached, and nobody writes it.
            DatabaseUnavailable: nothing is known to be written; calling again is safe, the attempt is written once.
            StorageFailed: the database can no longer be written.
        """
        return self.finish_all((completion,))[0]

    def finish_all(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Writes the ends of several attempts in one transaction, all of them or none; see ``finish``.

        Raises:
            Exception: one of several cannot be written, or is no longer held. Else as ``finish``.
        """
        return self._db.write_batched(self._finish_groups, completions)

    def is_written(self, completion: Completion) -> bool:
        """Whether this very end of an attempt is stored: for those who were not told what became of ``finish``."""
        attempt, record = sql.ATTEMPTS.c, completion.attempt
        query = sa.select(attempt.id).where(
            attempt.item_id == completion.claim.item_id,
            attempt.number == record.number,
            attempt.status == record.status.value,
            attempt.started_at == record.started_at,
        )
        with self._db.read() as session:
            return session.execute(query).first() is not None

    def amend(self, claim: Claim, change: Usage) -> None:
        """Adds to what the stored attempt of a claim has taken (a part of it may be less than nothing)."""
        attempt = sql.ATTEMPTS.c
        values = {name: attempt[name] + getattr(change, name) for name in _OF_USAGE if name != "cost_usd"}
        values["cost_usd"] = sa.null() if change.cost_usd is None else attempt.cost_usd + change.cost_usd
        own = (attempt.item_id == claim.item_id) & (attempt.number == claim.attempt)
        amended = sql.ATTEMPTS.update().where(own).values(values)
        self._db.write_with_lock(lambda session: session.connection().execute(amended) and None)

    def release(self, claims: Sequence[Claim]) -> None:
        """Gives back claims that were never started, as if they had not been claimed."""
        if not claims:
            return
        rows = [_held(claim) for claim in claims]
        self._db.write_with_lock(lambda session: self._release.execute(session.connection(), rows) and None)

    def release_all(self, run_id: str, owner: str, but: Collection[int]) -> None:
        """Gives back all items of a run that ``owner`` holds, but those with these identifiers, as ``release`` does."""
        item = sql.ITEMS.c
        others = sql.GIVEN_BACK.where(item.run_id == run_id, item.lease_owner == owner, item.id.not_in(but))
        self._db.write_with_lock(lambda session: session.connection().execute(others) and None)

    def renew(self, owner: str, lease: float) -> int:
        """Extends all leases of ``owner``, of items and of a budget, to ``lease`` seconds from now.

        Returns how many items it holds.
        """
        parameters = {"owner": owner, "until": self._clock() + timedelta(seconds=lease)}

        if owner in self._sharing:
            with self._db.transaction() as session:
                session.connection().execute(budget_shares.RENEW_SHARE, parameters)
        return self._db.write_with_lock(
            lambda session: session.connection().execute(sql.RENEW, parameters).rowcount,
        )

    def recover(self, run_id: str, is_dead: Callable[[str], bool], max_losses: int, *, but: str = "") -> int:
        """Puts items back to pending whose lease has expired or whose owner ``is_dead``; returns how many.

        Each that may have been begun gets an attempt LOST. An item whose work had begun when it was lost for the
        ``max_losses``-th time is dead with class ``WorkerLost``, and is not counted. An item that was lost before and
        only waited this time (no ``begin``) is as if it had not been claimed. ``is_dead`` is called outside of any
        transaction. What such an owner held of the run's budget counts as spent. Of ``but`` nothing is lost.
        """
        of_others = (ItemRow.run_id == run_id) & (ItemRow.lease_owner != but)
        running = of_others & (ItemRow.status == ItemStatus.RUNNING.value)
        with self._db.read() as session:
            owners = session.scalars(sa.select(ItemRow.lease_owner).where(running).distinct()).all()
            sharing = budget_shares.owners(session, run_id)
        dead = [owner for owner in {*owners, *sharing} if owner is not None and is_dead(owner)]
        now = self._clock()
        lost = sa.select(ItemRow).where(running, (ItemRow.lease_until <= now) | ItemRow.lease_owner.in_(dead))

        def put_back(session: Session) -> int:
            items = session.scalars(lost.with_for_update(skip_locked=True)).all()
            attempts = [_lost_attempt(item, now) for item in items if _may_have_begun(item)]
            for item in items:
                _put_back(item, max_losses, now)
            self._insert_attempts.execute(session.connection(), attempts)
            return sum(item.status == ItemStatus.PENDING for item in items)

        found = self._db.write_with_lock(put_back)
        if sharing:  # after the items: what was lost with them is written to their attempts
            with self._db.transaction() as session:
                budget_shares.close_lost(session, run_id, dead, now, but=but)
        return found

    def _finish_groups(self, connection: sa.Connection, groups: Sequence[Sequence[Completion]]) -> list[Sequence[bool]]:
        """Those of all callers together; where that fails each caller's are written again by themselves."""
        are_held = iter(self._finish_many(connection, [completion for group in groups for completion in group]))
        return [[next(are_held) for _ in group] for group in groups]

    def _finish_many(self, connection: sa.Connection, completions: Sequence[Completion]) -> list[bool]:
        if not self._end_attempts(connection, completions):
            if len(completions) > 1:
                raise _LeaseLost
            return [False]
        attempts = [_attempt_row(completion.claim, completion.attempt) for completion in completions]
        self._insert_attempts.execute(connection, attempts)
        self._write_records(connection, completions)
        for completion in completions:
            if completion.outcome.children:
                claim, now = completion.claim, self._clock()
                self._insert_items(connection, claim.run_id, completion.outcome.children, now, claim.item_id)
        self._write_attachments(connection, completions)  # last: other processes may be writing the same rows
        if self._listening:
            self._tell_requests(connection, {completion.claim.run_id for completion in completions})
        return [True] * len(completions)

    def _tell_requests(self, connection: sa.Connection, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            with self._listening_lock:
                told = tuple(self._listening.get(run_id, ()))
            request = self._requested.execute(connection, run_id) if told else None
            if request is not None:
                for tell in told:
                    tell(RunRequest(request))

    def _end_attempts(self, connection: sa.Connection, completions: Sequence[Completion]) -> bool:
        """Writes the items' new states; False where one of them is no longer held."""
        now = self._clock()
        rows = [_ended(completion, now) for completion in completions]
        if self._finish.execute(connection, rows) != len(completions):
            return False
        if not self._keep_payloads:
            self._drop_payloads.execute(connection, [row for row in rows if row["new_status"] not in _NEED_PAYLOAD])
        return True

    def _write_records(self, connection: sa.Connection, completions: Sequence[Completion]) -> None:
        by_kind: dict[str, list[ItemRecords]] = {}
        for completion in completions:
            claim, records = completion.claim, completion.outcome.records
            if records or claim.attempt > 1:
                by_kind.setdefault(claim.kind, []).append(ItemRecords(claim, records))
        for kind, items in by_kind.items():
            self._write_kind(connection, kind, items)

    def _write_attachments(self, connection: sa.Connection, completions: Sequence[Completion]) -> None:
        by_kind: dict[str, list[ItemRecords]] = {}
        for completion in completions:
            for kind, rows in completion.attachments.items():
                by_kind.setdefault(kind, []).append(ItemRecords(completion.claim, rows))
        for kind, items in by_kind.items():
            self._write_kind(connection, kind, items)

    def _write_kind(self, connection: sa.Connection, kind: str, items: Sequence[ItemRecords]) -> None:
        writer = self._record_writers.get(kind)
        if writer is not None:
            writer(connection, items)
        elif any(item.records for item in items):
            raise PermanentError(f"Nobody writes the records of kind {kind!r}.")

    def _insert_items(
        self,
        connection: sa.Connection,
        run_id: str,
        specs: Sequence[ItemSpec],
        now: datetime,
        parent_id: int | None = None,
    ) -> int:
        """Writes those items, with their payloads, whose keys the run does not have yet; returns how many."""
        rows = [_new_row(run_id, spec, parent_id, now) for spec in specs]
        new = connection.execute(self._insert_new_items, rows).all()
        payloads = {spec.key: self._payload(spec) for spec in reversed(specs)}  # of specs of one key the first counts
        found = [{"item_id": item_id, "payload": payloads[key]} for item_id, key in new]
        self._insert_payloads.execute(connection, [row for row in found if row["payload"] is not None])
        return len(new)

    def _payload(self, spec: ItemSpec) -> bytes | None:
        return spec.payload if spec.skip_reason is None or self._keep_payloads else None

    def _kind(self, run_id: str) -> str:
        if run_id not in self._kinds:
            self._kinds[run_id] = self.get_run(run_id).kind
        return self._kinds[run_id]

    # What is known of a run's items

    def counts(self, run_id: str) -> Counts:
        """Counts the run's items by state."""
        query = sa.select(ItemRow.status, sa.func.count()).where(ItemRow.run_id == run_id).group_by(ItemRow.status)
        with self._db.read() as session:
            return Counts(**dict(session.execute(query).all()))

    def totals(self, run_id: str) -> Totals:
        """Sums the run's attempts; ``errors`` counts those that failed or were lost, by class."""
        attempt = sql.ATTEMPTS.c
        of_run = attempt.run_id == run_id
        sums = sa.select(
            *(sa.func.coalesce(sa.func.sum(attempt[name]), 0) for name in _SUMMED),
            sa.func.count(),
            sa.func.count(attempt.cost_usd),
        ).where(of_run)
        failed = attempt.status.in_([AttemptStatus.FAILED.value, AttemptStatus.LOST.value])
        errors = (
            sa.select(attempt.error_class, sa.func.count())
            .where(of_run, failed, attempt.error_class.is_not(None))
            .group_by(attempt.error_class)
            .order_by(attempt.error_class)
        )
        with self._db.read() as session:
            summed: Any = session.execute(sums).one()
            by_class: dict[str, int] = dict(session.execute(errors).all())
        requests, prompt, completion, cached, seconds, cost, hits, size, *unsettled, attempts, priced = summed
        known_cost = float(cost) if priced == attempts else None
        counted = (int(requests), int(prompt), int(completion), int(cached), known_cost, int(hits), int(size))
        usage = Usage(*counted, int(unsettled[0]), float(unsettled[1]))
        return Totals(usage, float(seconds), attempts, by_class)

    def next_due(self, run_id: str) -> datetime | None:
        """When the next pending item is due or the next lease expires; None where nothing is open."""
        item = sql.ITEMS.c
        pending = (item.run_id == run_id) & (item.status == ItemStatus.PENDING.value)
        running = (item.run_id == run_id) & (item.status == ItemStatus.RUNNING.value)
        at_once = sa.select(item.id).where(pending, item.next_attempt_at.is_(None)).limit(1)
        waiting = sa.select(sa.func.min(item.next_attempt_at)).where(pending, item.next_attempt_at.is_not(None))
        leased = sa.select(sa.func.min(item.lease_until)).where(running)
        with self._db.read() as session:
            if session.execute(at_once).first() is not None:
                return self._clock()
            times = [session.scalar(waiting), session.scalar(leased)]
        return min((time for time in times if time is not None), default=None)


_OF_USAGE = tuple(field.name for field in dataclasses.fields(Usage))
_ATTEMPT_COLUMNS = tuple(column.name for column in sql.ATTEMPTS.c if column.name != "id")
_SUMMED = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "duration_seconds",
    "cost_usd",
    "cache_hits",
    "prompt_bytes",
    "unsettled_tokens",
    "unsettled_cost_usd",
)


def _require_run(session: Session, run_id: str) -> RunRow:
    row = session.get(RunRow, run_id)
    if row is None:
        raise run_requests.unknown_run(run_id)
    return row


def run_of(row: RunRow) -> Run:
    """A row as the run that it is."""
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(Run) if field.name != "run_id"}
    values |= {"status": RunStatus(row.status), "mode": Mode(row.mode), "priority": Priority(row.priority)}
    values["requested"] = None if row.requested is None else RunRequest(row.requested)
    values["fallbacks"] = tuple(Fallback(**fallback) for fallback in row.fallbacks or ())
    values["budget"] = None if row.budget is None else Budget.parse(row.budget)
    return Run(run_id=row.id, **values)


def _columns(new: NewRun) -> dict[str, Any]:
    values = {field.name: getattr(new, field.name) for field in dataclasses.fields(new)}
    budget = None if new.budget is None else str(new.budget)
    return {**values, "mode": new.mode.value, "priority": int(new.priority), "budget": budget}


def _claim_of(row: Sequence[Any], run_id: str, kind: str, owner: str) -> Claim:
    """An item as ``CLAIM`` returns it."""
    return Claim(
        item_id=row[0],
        run_id=run_id,
        kind=kind,
        key=row[1],
        position=decode_position(row[2]),
        stage=row[3],
        payload=row[4],
        attributes=row[5],
        attempt=row[6],
        failures=row[7],
        owner=owner,
        losses=row[8],
    )


def _new_row(run_id: str, spec: ItemSpec, parent_id: int | None, now: datetime) -> dict[str, Any]:
    skipped = spec.skip_reason is not None
    return {
        "run_id": run_id,
        "parent_id": parent_id,
        "key": spec.key,
        "position": encode_position(spec.position),
        "stage": spec.stage,
        "status": (ItemStatus.SKIPPED if skipped else ItemStatus.PENDING).value,
        "skip_reason": spec.skip_reason,
        "attributes": spec.attributes,
        "attempts_started": 0,
        "failures": 0,
        "losses": 0,
        "created_at": now,
        "finished_at": now if skipped else None,
    }


def _added_at(connection: sa.Connection, run_id: str, specs: Sequence[ItemSpec], moment: datetime) -> int:
    """How many of these items one call has added, the first time that it was made."""
    item = sql.ITEMS.c
    by_call = (item.run_id == run_id) & (item.created_at == moment) & item.key.in_([spec.key for spec in specs])
    return connection.execute(sa.select(sa.func.count()).where(by_call)).scalar_one()


def _held(claim: Claim) -> dict[str, Any]:
    return {"held_item": claim.item_id, "held_by": claim.owner, "held_attempt": claim.attempt}


def _ended(completion: Completion, now: datetime) -> dict[str, Any]:
    claim, attempt, outcome = completion.claim, completion.attempt, completion.outcome
    return {
        "held_item": claim.item_id,
        "held_by": claim.owner,
        "held_attempt": claim.attempt,
        "new_status": completion.status.value,
        "failed": int(completion.counts_as_failure),
        "retry_at": completion.retry_at,
        "ended_at": None if completion.status is ItemStatus.PENDING else now,
        "reason": outcome.skip_reason,
        "failed_with": attempt.error_class,
        "failed_because": attempt.error_message,
        "yielded": outcome.result,
    }


def _attempt_row(claim: Claim, attempt: AttemptRecord) -> dict[str, Any]:
    usage = attempt.usage
    return {
        "run_id": claim.run_id,
        "item_id": claim.item_id,
        "number": attempt.number,
        "status": attempt.status.value,
        "error_class": attempt.error_class,
        "error_message": attempt.error_message,
        "raw_answer": attempt.raw_answer,
        "started_at": attempt.started_at,
        "duration_seconds": attempt.duration,
        "requests": usage.requests,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "cost_usd": usage.cost_usd,
        "cache_hits": usage.cache_hits,
        "prompt_bytes": usage.prompt_bytes,
        "unsettled_tokens": usage.unsettled_tokens,
        "unsettled_cost_usd": usage.unsettled_cost_usd,
    }


def _lost_attempt(item: ItemRow, now: datetime) -> dict[str, Any]:
    """How long it ran and what it cost died with its process: no time and no requests are claimed."""
    claim = Claim(
        item_id=item.id,
        run_id=item.run_id,
        kind="",
        key=item.key,
        position=(),
        stage=item.stage,
        payload=None,
        attributes={},
        attempt=item.attempts_started,
        failures=item.failures,
        owner=item.lease_owner or "",
    )
    record = AttemptRecord(
        number=item.attempts_started,
        status=AttemptStatus.LOST,
        started_at=item.started_at or now,
        duration=0.0,
        error_class=WORKER_LOST,
        error_message=f"The process {item.lease_owner} ended without a word.",
    )
    return _attempt_row(claim, record)


def _may_have_begun(item: ItemRow) -> bool:
    """Of an item that was never lost nobody wrote whether work on it began; from then on it is written."""
    return item.losses == 0 or _had_begun(item)


def _had_begun(item: ItemRow) -> bool:
    return item.begun == item.attempts_started


def _put_back(item: ItemRow, max_losses: int, now: datetime) -> None:
    """Makes a lost item pending again, or dead: never for a process of which it is unknown whether it was in it."""
    may_have_begun, had_begun = _may_have_begun(item), _had_begun(item)
    item.losses += may_have_begun
    item.attempts_started -= not may_have_begun
    is_dead = had_begun and item.losses >= max_losses
    item.status = (ItemStatus.DEAD if is_dead else ItemStatus.PENDING).value
    item.lease_owner = item.lease_until = item.next_attempt_at = None
    if is_dead:
        item.finished_at = now
        item.error_class = WORKER_LOST
        item.error_message = f"Lost {item.losses} times: each time the process that had it ended without a word."
