"""The facts of XML discovery: written with their item, read in the order of the document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

import sqlalchemy as sa

from thresher.core.errors import NotFound
from thresher.engine.work import JsonObject
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.prepared import PreparedStatement
from thresher.persistence.repositories import statements as sql
from thresher.persistence.repositories.positions import encode_position
from thresher.persistence.repositories.store import ItemRecords

_PAGE = 500  # facts in memory at a time
_MOST_TYPES = 200
_SAMPLED = 20_000  # facts from which a sample is taken, so that it costs the same for any run

FactPlace: TypeAlias = tuple[str, int, int]
"""Where a fact stands: the position of its item as it is stored, the item's identifier, its number in the item."""

_fact = sql.NODE_FACTS.c
_EXPORTED = (
    _fact.run_id,
    _fact.section_path,
    _fact.node_type,
    _fact.node_ordinal,
    _fact.extractor,
    _fact.confidence,
    _fact.pii_masked,
    _fact.fields,
    _fact.refs.label("references"),
    _fact.record,
)
_ORDER = (_fact.position, _fact.item_id, _fact.ordinal)


@dataclass(frozen=True, slots=True)
class FactCounts:
    """What a run yielded: facts, the values they hold, and how many of these are proved by the source."""

    facts: int = 0
    fields_total: int = 0
    fields_grounded: int = 0


class Grounding(StrEnum):
    """Which values are read: those that the source proves, all, or all of facts with one that it does not prove."""

    PROVED = "true"
    UNPROVED = "false"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class FactPage:
    """Which part of a list of facts: so many behind the one at ``after``, or before it."""

    limit: int = 50
    after: FactPlace | None = None
    is_backwards: bool = False


@dataclass(frozen=True, slots=True)
class FactFilter:
    """Which facts are read. ``below``: of the element at this path, whatever its number, and of what it holds."""

    node_type: str | None = None
    below: str | None = None
    grounding: Grounding = Grounding.PROVED


def insert_node_facts(connection: sa.Connection, items: Sequence[ItemRecords]) -> None:
    """The ``RecordWriter`` of discovery; replaces the facts of items that are finished once more.

    A record has the keys ``node_type``, ``section_path``, ``extractor``, ``fields`` (a list of ``name``, ``value``,
    ``path``, ``grounded``, or its ``JsonText``), ``fields_total``, ``fields_grounded``, ``references``, and may have
    ``node_ordinal``, ``confidence``, ``pii_masked`` (False where it is missing) and ``record``, the object that a
    user's schema asks for. Their order is kept.
    """
    again = [{"finished_item": item.claim.item_id} for item in items if item.claim.attempt > 1]
    if again:
        connection.execute(sql.DELETE_NODE_FACTS, again)
    rows = [row for item in items for row in _rows(item)]
    _insert(connection.dialect).execute(connection, rows)


@lru_cache(maxsize=8)
def _insert(dialect: sa.Dialect) -> PreparedStatement:
    return PreparedStatement(sql.INSERT_NODE_FACTS, dialect, [column.name for column in _fact if column.name != "id"])


def _rows(item: ItemRecords) -> Iterator[dict[str, Any]]:
    claim = item.claim
    position = encode_position(claim.position)
    for ordinal, record in enumerate(item.records):
        yield {
            "run_id": claim.run_id,
            "item_id": claim.item_id,
            "ordinal": ordinal,
            "position": position,
            "node_type": record["node_type"],
            "node_ordinal": record.get("node_ordinal"),
            "section_path": record["section_path"],
            "extractor": record["extractor"],
            "confidence": record.get("confidence"),
            "pii_masked": bool(record.get("pii_masked")),
            "fields": record["fields"],
            "refs": record["references"],
            "record": record.get("record"),
            "fields_total": record["fields_total"],
            "fields_grounded": record["fields_grounded"],
        }


def stream_facts(db: ThreadSafeDatabaseManager, run_id: str, wanted: FactFilter | None = None) -> Iterator[JsonObject]:
    """Yields a run's facts in the order of the document, in bounded memory, with no transaction held between pages.

    The keys are ``run_id, section_path, node_type, node_ordinal, extractor, confidence, pii_masked, fields,
    references``, and ``record`` where a user's schema was used. Values that are not proved by the source are left
    out unless asked for: ungrounded fields and references, facts of which no field is grounded, and records of facts
    with an ungrounded field, since the record would repeat it.
    """
    wanted = wanted or FactFilter()
    query = sa.select(*_ORDER, *_EXPORTED).where(_fact.run_id == run_id).order_by(*_ORDER).limit(_PAGE)
    query = query.where(*_conditions(wanted))
    include_ungrounded = wanted.grounding is not Grounding.PROVED
    page = query
    while True:
        with db.read() as session:
            rows = session.execute(page).all()
        for row in rows:
            yield _exported(row._mapping, include_ungrounded=include_ungrounded)  # noqa: SLF001 - public in SQLAlchemy
        if len(rows) < _PAGE:
            return
        page = query.where(sa.tuple_(*_ORDER) > sa.tuple_(*(sa.literal(value) for value in rows[-1][:3])))


@dataclass(frozen=True, slots=True)
class StoredFact:
    """A fact as it is stored, ungrounded values included; ``place`` orders it among the facts of its run."""

    fact_id: int
    place: FactPlace
    section_path: str
    node_type: str
    node_ordinal: int | None
    extractor: str
    confidence: float | None
    pii_masked: bool
    fields: Sequence[Mapping[str, Any]]
    references: Sequence[Mapping[str, Any]]
    record: Any

    @property
    def item_id(self) -> int:
        """The node that it was read from."""
        return self.place[1]

    @property
    def fields_grounded(self) -> int:
        """How many fields are proved."""
        return [bool(value["grounded"]) for value in self.fields].count(True)


def list_facts(db: ThreadSafeDatabaseManager, run_id: str, wanted: FactFilter, page: FactPage) -> Sequence[StoredFact]:
    """A page of a run's facts in the order of the document (backwards: the nearest first)."""
    query = sa.select(_fact.id, *_ORDER, *_EXPORTED[1:]).where(_fact.run_id == run_id, *_conditions(wanted))
    if page.after is not None:
        order, place = sa.tuple_(*_ORDER), sa.tuple_(*(sa.literal(value) for value in page.after))
        query = query.where(order < place if page.is_backwards else order > place)
    query = query.order_by(*(column.desc() if page.is_backwards else column for column in _ORDER))
    with db.read() as session:
        return [_stored(tuple(row)) for row in session.execute(query.limit(page.limit))]


def get_fact(db: ThreadSafeDatabaseManager, run_id: str, fact_id: int) -> StoredFact:
    """A fact of a run.

    Raises:
        NotFound: the run has none of this number, or no longer: a node that is read anew has new facts.
    """
    row = None
    if fact_id < 2**63:
        query = sa.select(_fact.id, *_ORDER, *_EXPORTED[1:]).where(_fact.run_id == run_id, _fact.id == fact_id)
        with db.read() as session:
            row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"Run {run_id} has no fact with the number {fact_id}; it may have been read anew.")
    return _stored(tuple(row))


def fact_types(db: ThreadSafeDatabaseManager, run_id: str) -> Sequence[tuple[str, int]]:
    """The types of a run's facts, the most frequent first, and how many there are of each; 200 types at most."""
    count = sa.func.count()
    query = sa.select(_fact.node_type, count).where(_fact.run_id == run_id).group_by(_fact.node_type)
    with db.read() as session:
        found = session.execute(query.order_by(count.desc(), _fact.node_type).limit(_MOST_TYPES))
        return [(row[0], row[1]) for row in found]


def _stored(values: Sequence[Any]) -> StoredFact:
    return StoredFact(values[0], (values[1], values[2], values[3]), *values[4:])


def _conditions(wanted: FactFilter) -> Iterator[sa.ColumnElement[bool]]:
    if wanted.node_type is not None:
        yield _fact.node_type == wanted.node_type
    if wanted.below is not None:
        yield _is_below(wanted.below)
    if wanted.grounding is Grounding.PROVED:
        yield (_fact.fields_grounded > 0) | (_fact.fields_total == 0)
    if wanted.grounding is Grounding.UNPROVED:
        yield _fact.fields_grounded < _fact.fields_total


def _is_below(path: str) -> sa.ColumnElement[bool]:
    place = path.rstrip("/")
    starts = [_fact.section_path.startswith(place + follows, autoescape=True) for follows in "/["]
    return sa.or_(_fact.section_path == place, *starts)


def sample_facts(db: ThreadSafeDatabaseManager, run_id: str, limit: int) -> list[JsonObject]:
    """A few facts of each type in the order of the document: the first of every type, then the second ones, ...

    Ungrounded values are in it. Only the first 20,000 facts of the run are looked at.
    """
    first = sa.select(_fact.id, _fact.node_type, *_ORDER).where(_fact.run_id == run_id)
    seen = first.order_by(*_ORDER).limit(_SAMPLED).subquery().c
    order = (seen.position, seen.item_id, seen.ordinal)
    nth = sa.func.row_number().over(partition_by=seen.node_type, order_by=order)
    chosen = sa.select(seen.id).order_by(nth, *order).limit(limit)
    query = sa.select(*_EXPORTED).where(_fact.id.in_(chosen)).order_by(*_ORDER)
    with db.read() as session:
        rows = session.execute(query).all()
    return [_exported(row._mapping, include_ungrounded=True) for row in rows]  # noqa: SLF001 - public in SQLAlchemy


def _exported(row: Mapping[Any, Any], *, include_ungrounded: bool) -> JsonObject:
    fact: dict[str, Any] = {column.name: row[column.name] for column in _EXPORTED if column.name != "record"}
    record = row["record"]
    if not include_ungrounded:
        proved = all(field["grounded"] for field in fact["fields"])
        fact["fields"] = [field for field in fact["fields"] if field["grounded"]]
        fact["references"] = [reference for reference in fact["references"] if reference.get("grounded", True)]
        record = record if proved else None
    return fact if record is None else fact | {"record": record}


def fact_counts(db: ThreadSafeDatabaseManager, run_id: str) -> FactCounts:
    """Counts a run's facts and their values, ungrounded ones included."""
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(_fact.fields_total), 0),
        sa.func.coalesce(sa.func.sum(_fact.fields_grounded), 0),
    ).where(_fact.run_id == run_id)
    with db.read() as session:
        return FactCounts(*map(int, session.execute(query).one()))
