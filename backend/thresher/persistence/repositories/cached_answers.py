"""Models' answers that are kept for equal questions: found by their key, written with items, bounded in size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa

from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.prepared import PreparedLookup, PreparedStatement
from thresher.persistence.repositories.store import ItemRecords
from thresher.persistence.tables import CachedAnswerRow

ROW_BYTES = 400  # what a row takes beside its answer, with its part of the indexes
LARGEST_EVICTION = 1_000  # answers in one transaction
_SLACK = 16  # at the bound the oldest sixteenth goes, so that it does not go answer by answer
_CLEARED_AT_ONCE = 2_000

_ANSWERS: Final[sa.Table] = sa.Table(CachedAnswerRow.__tablename__, CachedAnswerRow.metadata)
_answer = _ANSWERS.c
_COLUMNS = tuple(column.name for column in _answer)
_SIZE = sa.select(sa.func.coalesce(sa.func.sum(_answer.size_bytes), 0))
_OLDEST = (
    sa.select(_answer.key, _answer.size_bytes)
    .order_by(_answer.used_at)
    .limit(LARGEST_EVICTION)
    .with_for_update(skip_locked=True)
)


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """What is kept. ``hits``: requests that were not made; ``cost_saved_usd`` None where a price is unknown."""

    answers: int
    size_bytes: int
    hits: int
    tokens_saved: int
    cost_saved_usd: float | None
    oldest: datetime | None
    newest: datetime | None


class CachedAnswers:
    """The table of kept answers. Safe to use from any thread.

    Every process counts by itself what it writes, and all rows once in a while: with several of them the table may
    grow over ``max_bytes`` by a sixteenth for each.
    """

    def __init__(
        self,
        db: ThreadSafeDatabaseManager,
        max_bytes: int,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        dialect = db.engine.dialect
        self._find = PreparedLookup(sa.select(_answer.answer).where(_answer.key == sa.bindparam("wanted")), dialect)
        self._put = PreparedStatement(_put(dialect.name), dialect, _COLUMNS)
        self._use = PreparedStatement(_use(dialect.name), dialect)
        self._delete = PreparedStatement(_ANSWERS.delete().where(_answer.key == sa.bindparam("gone")), dialect)
        self._db = db
        self._total: int | None = None  # bytes, as far as this process knows; used by the one thread that writes
        self._uncounted = 0  # bytes written since all rows were counted

    def holds_any(self, provider: str, model: str) -> bool:
        """Whether there is any answer of this model."""
        query = sa.select(_answer.key).where(_answer.provider == provider, _answer.model == model).limit(1)
        with self._db.read() as session:
            return session.execute(query).first() is not None

    def find(self, key: str) -> str | None:
        """The answer with this key.

        Raises:
            DatabaseUnavailable, StorageFailed: the database cannot be read.
        """
        return self._db.look_up(self._find.execute, key)

    def write(self, connection: sa.Connection, items: Sequence[ItemRecords]) -> None:
        """The ``RecordWriter`` of answers; equal keys become one row, whose ``uses`` add up.

        A row has the keys ``key, provider, model, answer, prompt_tokens, completion_tokens, cost_usd, uses``; with
        ``answer`` None only the use of a stored one is counted. Locks are taken in the order of keys, and nowhere
        else waited for, so that processes cannot block each other for good.
        """
        kept: dict[str, dict[str, Any]] = {}
        used: dict[str, int] = {}
        for row in (row for item in items for row in item.records):
            key: Any = row["key"]
            used[key] = used.get(key, 0) + _number(row["uses"])
            if row["answer"] is not None:
                kept[key] = dict(row)
        now = self._clock()
        rows = [_stored(kept[key], used.pop(key), now) for key in sorted(kept)]
        rows = [row for row in rows if row["size_bytes"] <= self._max_bytes]
        self._put.execute(connection, rows)
        self._use.execute(connection, [{"used": key, "times": used[key], "now": now} for key in sorted(used)])
        if rows:
            self._keep_within_bound(connection, sum(row["size_bytes"] for row in rows))

    def _keep_within_bound(self, connection: sa.Connection, written: int) -> None:
        """Counting too much (a row written again, a group run twice) is put right by the next count of all rows."""
        self._uncounted += written
        if self._total is None or self._uncounted > self._max_bytes // _SLACK:
            self._total = int(connection.execute(_SIZE).scalar_one())
            self._uncounted = 0
        else:
            self._total += written
        if self._total > self._max_bytes:
            self._total -= self._evict(connection, self._total - self._max_bytes + self._max_bytes // _SLACK)

    def _evict(self, connection: sa.Connection, wanted: int) -> int:
        """Deletes the least recently used answers until ``wanted`` bytes are free, not too many at a time."""
        freed, gone = 0, []
        for key, size in connection.execute(_OLDEST):
            if freed >= wanted:
                break
            freed += size
            gone.append({"gone": key})
        self._delete.execute(connection, gone)
        return freed


def _stored(row: dict[str, Any], uses: int, now: datetime) -> dict[str, Any]:
    size = len(row["answer"].encode()) + ROW_BYTES
    return {**row, "uses": uses, "size_bytes": size, "created_at": now, "used_at": now}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _put(dialect: str) -> sa.Insert:
    """The newest answer stays; uses are added up. Each dialect has a construct of its own for the same clause."""
    insert: Any = import_module(f"sqlalchemy.dialects.{dialect}").insert  # the other one would take 4 MB of memory
    statement = insert(_ANSWERS).inline()
    new = statement.excluded
    changed = {name: new[name] for name in _COLUMNS if name not in {"key", "created_at", "uses"}}
    upsert: sa.Insert = statement.on_conflict_do_update(
        index_elements=["key"], set_={**changed, "uses": _answer.uses + new.uses}
    )
    return upsert


def _use(dialect: str) -> sa.Update:
    """Passes over a row that another process is writing: to miss a use is better than to wait for it.

    On SQLite there is none, since one writes at a time; a subquery would take longer than the rest.
    """
    is_used = _answer.key == sa.bindparam("used")
    if dialect != "sqlite":
        is_used = _answer.key.in_(sa.select(_answer.key).where(is_used).with_for_update(skip_locked=True))
    times = sa.bindparam("times", type_=sa.Integer())
    return _ANSWERS.update().where(is_used).values(uses=_answer.uses + times, used_at=sa.bindparam("now"))


# For people


def cache_figures(db: ThreadSafeDatabaseManager) -> dict[tuple[str, str], CacheFigures]:
    """What is kept, by provider and model."""
    tokens = _answer.uses * (_answer.prompt_tokens + _answer.completion_tokens)
    unpriced = sa.case((sa.and_(_answer.uses > 0, _answer.cost_usd.is_(None)), 1), else_=0)
    query = (
        sa.select(
            _answer.provider,
            _answer.model,
            sa.func.count(),
            sa.func.sum(_answer.size_bytes),
            sa.func.sum(_answer.uses),
            sa.func.sum(tokens),
            sa.func.coalesce(sa.func.sum(_answer.uses * _answer.cost_usd), 0),
            sa.func.sum(unpriced),
            sa.func.min(_answer.created_at),
            sa.func.max(_answer.created_at),
        )
        .group_by(_answer.provider, _answer.model)
        .order_by(_answer.provider, _answer.model)
    )
    with db.read() as session:
        return {(row[0], row[1]): _figures(row) for row in session.execute(query)}


def _figures(row: sa.Row[Any]) -> CacheFigures:
    answers, size, hits, tokens, cost, unpriced, oldest, newest = tuple(row)[2:]
    return CacheFigures(
        int(answers), int(size), int(hits), int(tokens), None if unpriced else float(cost), oldest, newest
    )


def clear_answers(
    db: ThreadSafeDatabaseManager, model: str | None = None, older_than: timedelta | None = None
) -> tuple[int, int]:
    """Deletes kept answers, of one model or given longer ago than ``older_than``; returns how many, and their bytes.

    In steps of a short transaction each: runs may go on writing.
    """
    wanted = sa.select(_answer.key, _answer.size_bytes).limit(_CLEARED_AT_ONCE).with_for_update(skip_locked=True)
    if model is not None:
        wanted = wanted.where(_answer.model == model)
    if older_than is not None:
        wanted = wanted.where(_answer.created_at < sa.literal(datetime.now(UTC) - older_than, _answer.created_at.type))
    delete = _ANSWERS.delete().where(_answer.key == sa.bindparam("gone"))
    answers = freed = 0
    while True:
        with db.transaction() as session:
            rows = session.execute(wanted).all()
            if rows:
                session.connection().execute(delete, [{"gone": key} for key, _ in rows])
        answers, freed = answers + len(rows), freed + sum(size for _, size in rows)
        if len(rows) < _CLEARED_AT_ONCE:
            return answers, freed
