"""The items of a run for people: in document order, with their attempts; dead letters, and their way back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.core.errors import NotFound
from thresher.engine.work import AttemptRecord, AttemptStatus, ItemStatus, JsonValue, Usage
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories import run_requests
from thresher.persistence.repositories.positions import DIGITS as _LEVEL
from thresher.persistence.repositories.statements import PAYLOAD_OF_ITEM
from thresher.persistence.tables import AttemptRow, ItemRow

_PAGE = 500
_LARGEST_ID = 2**63 - 1
_ITEMS: sa.Table = ItemRow.metadata.tables[ItemRow.__tablename__]


_Place: TypeAlias = tuple[str, int]  # where an item stands in its run: its position as it is stored, its identifier


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Which part of a list in document order: so many items (None: all) behind the one that stands at ``after``."""

    limit: int | None = None
    after: _Place | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it is stored. ``payload_bytes`` is 0 where the payload was dropped."""

    place: _Place
    item_id: int
    key: str
    stage: str
    status: ItemStatus
    result: JsonValue
    error_class: str | None
    error_message: str | None
    attempts: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which of a run's items are meant: dead ones, and with ``cancelled`` also those that were cancelled.

    ``items`` names them by key or id, ``error_classes`` by their last error; nothing named means all. What is named
    in both ways must fit both.
    """

    items: Sequence[str] = ()
    error_classes: Sequence[str] = ()
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that was given up, with the last answer that could not be used."""

    place: _Place
    item_id: int
    key: str
    error_class: str | None
    error_message: str | None
    attempts: int
    raw_answer: str | None


def list_items(
    db: ThreadSafeDatabaseManager, run_id: str, page: ItemPage, statuses: Collection[ItemStatus] = ()
) -> Sequence[Item]:
    """A page of the items of a run, of some states or of all, in document order."""
    query = _items(run_id)
    if statuses:
        query = query.where(ItemRow.status.in_([status.value for status in statuses]))
    return [_item(row) for row in _page(db, query, page)]


def get_item(db: ThreadSafeDatabaseManager, run_id: str, item_id: int) -> Item:
    """An item of a run.

    Raises:
        NotFound: the run has none of this number.
    """
    row = None
    if item_id <= _LARGEST_ID:
        with db.read() as session:
            row = session.execute(_items(run_id).where(ItemRow.id == item_id)).one_or_none()
    if row is None:
        raise NotFound(f"Run {run_id} has no node with the number {item_id}.")
    return _item(row)


def byte_ranges(db: ThreadSafeDatabaseManager, item_id: int) -> tuple[range, range] | None:
    """Where in its document an item's whole subtree begins (and its first piece ends), and where the item itself is.

    In bytes, as the attribute ``bytes`` of the items says it; None where it is not known.
    """
    columns = (ItemRow.run_id, ItemRow.position, ItemRow.attributes)
    with db.read() as session:
        run_id, position, attributes = session.execute(sa.select(*columns).where(ItemRow.id == item_id)).one()
        first = session.execute(
            sa.select(ItemRow.attributes)
            .where(ItemRow.run_id == run_id, ItemRow.position >= position[:_LEVEL])
            .order_by(ItemRow.position, ItemRow.id)
            .limit(1)
        ).scalar_one()
    if "bytes" not in attributes or "bytes" not in first:
        return None
    return range(*first["bytes"]), range(*attributes["bytes"])


def stream_items(db: ThreadSafeDatabaseManager, run_id: str) -> Iterator[Item]:
    """The items of a run in document order, read in pages: memory stays bounded."""
    page = ItemPage(_PAGE)
    while True:
        items = list_items(db, run_id, page)
        yield from items
        if len(items) < _PAGE:
            return
        page = ItemPage(_PAGE, items[-1].place)


def _items(run_id: str) -> sa.Select[Any]:
    columns = (
        ItemRow.position,
        ItemRow.id,
        ItemRow.key,
        ItemRow.stage,
        ItemRow.status,
        ItemRow.result,
        ItemRow.error_class,
        ItemRow.error_message,
        ItemRow.attempts_started,
        sa.func.coalesce(sa.func.length(PAYLOAD_OF_ITEM), 0),
    )
    return sa.select(*columns).where(ItemRow.run_id == run_id)


def _page(db: ThreadSafeDatabaseManager, query: sa.Select[Any], page: ItemPage) -> Sequence[sa.Row[Any]]:
    if page.after is not None:
        query = query.where(sa.tuple_(ItemRow.position, ItemRow.id) > sa.tuple_(*page.after))
    with db.read() as session:
        return session.execute(query.order_by(ItemRow.position, ItemRow.id).limit(page.limit)).all()


def attempts_of(db: ThreadSafeDatabaseManager, item_id: int) -> Sequence[AttemptRecord]:
    """All tries at an item, in order."""
    return attempts_of_items(db, [item_id])[item_id]


def attempts_of_items(
    db: ThreadSafeDatabaseManager, item_ids: Collection[int]
) -> Mapping[int, Sequence[AttemptRecord]]:
    """All tries at some items, in order, by item."""
    found: dict[int, list[AttemptRecord]] = {item_id: [] for item_id in item_ids}
    query = sa.select(AttemptRow).where(AttemptRow.item_id.in_(item_ids))
    with db.read() as session:
        for row in session.scalars(query.order_by(AttemptRow.item_id, AttemptRow.number, AttemptRow.id)):
            found[row.item_id].append(_attempt(row))
    return found


def dead_letters(
    db: ThreadSafeDatabaseManager, run_id: str, error_classes: Sequence[str] = (), page: ItemPage | None = None
) -> Sequence[DeadLetter]:
    """The items of a run that were given up (with one of these errors), in document order."""
    last = (
        sa.select(AttemptRow.raw_answer)
        .where(AttemptRow.item_id == ItemRow.id, AttemptRow.raw_answer.is_not(None))
        .order_by(AttemptRow.number.desc(), AttemptRow.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    columns = (ItemRow.id, ItemRow.key, ItemRow.error_class, ItemRow.error_message, ItemRow.attempts_started, last)
    query = sa.select(ItemRow.position, *columns).where(_meant(run_id, Chosen(error_classes=error_classes)))
    rows: Sequence[Any] = _page(db, query, page or ItemPage())
    return [DeadLetter((row[0], row[1]), *row[1:]) for row in rows]


def retry_items(db: ThreadSafeDatabaseManager, run_id: str, chosen: Chosen = Chosen()) -> int:
    """Makes items pending again, with fresh retries, and opens their run for it; returns how many. Attempts stay.

    Raises:
        NotFound: one of the items that are named is not there in such a state.
        StateConflict: the run is being cancelled, or is cancelled and its cancelled items are not meant.
    """
    fresh = {
        "status": ItemStatus.PENDING.value,
        "failures": 0,
        "losses": 0,
        "next_attempt_at": None,
        "finished_at": None,
        "error_class": None,
        "error_message": None,
    }

    def revive(session: Session) -> int:
        run_requests.withdraw(session, run_id, is_reopened=chosen.cancelled)
        _require_items(session, run_id, chosen)
        return session.connection().execute(_ITEMS.update().where(_meant(run_id, chosen)).values(fresh)).rowcount

    return db.write_with_lock(revive)


def count_chosen(db: ThreadSafeDatabaseManager, run_id: str, chosen: Chosen) -> int:
    """How many items ``retry_items`` would bring back.

    Raises:
        NotFound: one of the items that are named is not there in such a state.
    """
    with db.read() as session:
        _require_items(session, run_id, chosen)
        return session.scalar(sa.select(sa.func.count()).where(_meant(run_id, chosen))) or 0


def _require_items(session: Session, run_id: str, chosen: Chosen) -> None:
    states = _in_state(run_id, chosen)
    for name in chosen.items:
        if session.scalar(sa.select(ItemRow.id).where(states, _named(name)).limit(1)) is None:
            state = "failed or cancelled" if chosen.cancelled else "failed"
            hint = f"`thresher dead {run_id}` lists those that failed."
            raise NotFound(f"Run {run_id} has no {state} node {name!r}.").with_hint(hint)


def _meant(run_id: str, chosen: Chosen) -> sa.ColumnElement[bool]:
    meant = _in_state(run_id, chosen)
    if chosen.items:
        meant &= sa.or_(*map(_named, chosen.items))
    if chosen.error_classes:
        meant &= ItemRow.error_class.in_(chosen.error_classes)
    return meant


def _in_state(run_id: str, chosen: Chosen) -> sa.ColumnElement[bool]:
    states = [ItemStatus.DEAD.value, *([ItemStatus.CANCELLED.value] if chosen.cancelled else [])]
    return sa.and_(ItemRow.run_id == run_id, ItemRow.status.in_(states))


def _named(name: str) -> sa.ColumnElement[bool]:
    """By key; digits may be an id as well."""
    by_key = ItemRow.key == name
    is_id = name.isascii() and name.isdigit() and int(name) <= _LARGEST_ID
    return by_key | (ItemRow.id == int(name)) if is_id else by_key


def _item(row: sa.Row[Any]) -> Item:
    columns: tuple[Any, ...] = tuple(row)
    position, item_id, key, stage, status, *rest = columns
    return Item((position, item_id), item_id, key, stage, ItemStatus(status), *rest)


def _attempt(row: AttemptRow) -> AttemptRecord:
    return AttemptRecord(
        number=row.number,
        status=AttemptStatus(row.status),
        started_at=row.started_at,
        duration=row.duration_seconds,
        usage=Usage(
            row.requests,
            row.prompt_tokens,
            row.completion_tokens,
            row.cached_tokens,
            row.cost_usd,
            row.cache_hits,
            row.prompt_bytes,
            row.unsettled_tokens,
            row.unsettled_cost_usd,
        ),
        error_class=row.error_class,
        error_message=row.error_message,
        raw_answer=row.raw_answer,
    )
