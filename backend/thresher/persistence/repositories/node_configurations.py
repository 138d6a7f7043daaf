"""Node configurations: which paths are extracted, and how, per workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from thresher.core.errors import NotFound, StateConflict
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.tables import NodeConfigurationRow

_TABLE: Final[sa.Table] = sa.Table(NodeConfigurationRow.__tablename__, NodeConfigurationRow.metadata)
_node = _TABLE.c
_TARGET = ("workspace", "message_root", "spec_version", "sender", "path")
_HOW = ("instructions", "record_schema", "enabled")


@dataclass(frozen=True, slots=True)
class StoredNodeConfiguration:
    """How the subtrees of one path are read; None for message, version or sender means any.

    ``configuration_id`` None: it is not stored yet.
    """

    path: str
    message_root: str | None = None
    spec_version: str | None = None
    sender: str | None = None
    instructions: str | None = None
    record_schema: Mapping[str, Any] | None = None
    enabled: bool = True
    configuration_id: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ConfigurationFilter:
    """Which configurations are meant: those with exactly these values; None: with any."""

    message_root: str | None = None
    spec_version: str | None = None
    sender: str | None = None
    path: str | None = None


def list_node_configurations(
    db: ThreadSafeDatabaseManager, workspace: str = "default", wanted: ConfigurationFilter | None = None
) -> Sequence[StoredNodeConfiguration]:
    """The configurations of a workspace, by message, version, sender and path."""
    query = sa.select(_TABLE).where(_node.workspace == workspace, *_conditions(wanted or ConfigurationFilter()))
    with db.read() as session:
        return [_configuration(row) for row in session.execute(query.order_by(*(_node[name] for name in _TARGET)))]


def page_of_node_configurations(
    db: ThreadSafeDatabaseManager, workspace: str, wanted: ConfigurationFilter, limit: int, after: int = 0
) -> Sequence[StoredNodeConfiguration]:
    """A page of them in the order in which they were stored, behind the one with the identifier ``after``."""
    query = sa.select(_TABLE).where(_node.workspace == workspace, _node.id > after, *_conditions(wanted))
    with db.read() as session:
        return [_configuration(row) for row in session.execute(query.order_by(_node.id).limit(limit))]


def get_node_configuration(
    db: ThreadSafeDatabaseManager, workspace: str, configuration_id: int
) -> StoredNodeConfiguration:
    """A configuration of a workspace.

    Raises:
        NotFound: it has none with this identifier.
    """
    with db.read() as session:
        row = session.execute(sa.select(_TABLE).where(*_is(workspace, configuration_id))).one_or_none()
    if row is None:
        raise _unknown(configuration_id)
    return _configuration(row)


def insert_node_configuration(
    db: ThreadSafeDatabaseManager, workspace: str, new: StoredNodeConfiguration
) -> StoredNodeConfiguration:
    """Stores a configuration.

    Raises:
        StateConflict: there is one for the same message, version, sender and path.
    """
    insert = _TABLE.insert().values(_row(new, workspace)).returning(_node.id)
    try:
        stored = db.write_with_lock(lambda session: session.connection().execute(insert).scalar_one())
    except IntegrityError as error:
        raise _taken(new) from error
    return get_node_configuration(db, workspace, stored)


def replace_node_configuration(
    db: ThreadSafeDatabaseManager, workspace: str, configuration_id: int, new: StoredNodeConfiguration
) -> StoredNodeConfiguration:
    """Puts another configuration in the place of one.

    Raises:
        NotFound: there is none with this identifier.
        StateConflict: another one is for the same message, version, sender and path.
    """
    update = _TABLE.update().where(*_is(workspace, configuration_id)).values(_row(new, workspace))
    try:
        found = db.write_with_lock(lambda session: session.connection().execute(update).rowcount)
    except IntegrityError as error:
        raise _taken(new) from error
    if not found:
        raise _unknown(configuration_id)
    return get_node_configuration(db, workspace, configuration_id)


def delete_node_configuration(db: ThreadSafeDatabaseManager, workspace: str, configuration_id: int) -> None:
    """Deletes a configuration; runs that have begun keep theirs.

    Raises:
        NotFound: there is none with this identifier.
    """
    delete = _TABLE.delete().where(*_is(workspace, configuration_id))
    if not db.write_with_lock(lambda session: session.connection().execute(delete).rowcount):
        raise _unknown(configuration_id)


def upsert_node_configurations(
    db: ThreadSafeDatabaseManager,
    configurations: Sequence[StoredNodeConfiguration],
    workspace: str = "default",
    *,
    replace_all: bool = False,
) -> None:
    """Stores configurations; one for the same message, version, sender and path is replaced. All or none of them.

    ``replace_all``: whatever else the workspace has is gone.
    """
    rows = [_row(configuration, workspace) for configuration in configurations]

    def write(session: Session) -> None:
        connection = session.connection()
        if replace_all:
            connection.execute(_TABLE.delete().where(_node.workspace == workspace))
        if rows:
            connection.execute(_upsert(connection.dialect.name), rows)

    db.write_with_lock(write)


def copy_node_configurations(
    db: ThreadSafeDatabaseManager,
    workspace: str,
    wanted: ConfigurationFilter,
    versions: Sequence[str],
    *,
    replace: bool = False,
) -> tuple[int, int]:
    """Stores the configurations that are meant for other versions, too; returns how many were written and kept.

    Where a version has a configuration for the same message, sender and path, that one is kept, or ``replace``d.
    """

    def write(session: Session) -> tuple[int, int]:
        connection = session.connection()
        found = connection.execute(sa.select(_TABLE).where(_node.workspace == workspace, *_conditions(wanted))).all()
        rows = [
            {**{name: getattr(row, name) for name in (*_TARGET, *_HOW)}, "spec_version": version}
            for row in found
            for version in versions
            if row.spec_version != version
        ]
        statement = _upsert(connection.dialect.name, replace=replace).returning(_node.id)
        written = sum(len(connection.execute(statement, row).all()) for row in rows)
        return written, len(rows) - written

    return db.write_with_lock(write)


def _upsert(dialect: str, *, replace: bool = True) -> sa.Insert:
    """Each dialect has a construct of its own for the same clause, and they share no type."""
    insert: Any = import_module(f"sqlalchemy.dialects.{dialect}").insert(_TABLE)
    if replace:
        written = insert.on_conflict_do_update(
            index_elements=list(_TARGET), set_={name: insert.excluded[name] for name in _HOW}
        )
    else:
        written = insert.on_conflict_do_nothing(index_elements=list(_TARGET))
    statement: sa.Insert = written.inline()
    return statement


def _is(workspace: str, configuration_id: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (_node.workspace == workspace, _node.id == configuration_id)


def _conditions(wanted: ConfigurationFilter) -> Iterator[sa.ColumnElement[bool]]:
    for name in ConfigurationFilter.__dataclass_fields__:
        if (value := getattr(wanted, name)) is not None:
            yield _node[name] == value


def _unknown(configuration_id: int) -> NotFound:
    return NotFound(f"No node configuration has the number {configuration_id}.")


def _taken(new: StoredNodeConfiguration) -> StateConflict:
    meant = " ".join(part or "any" for part in (new.message_root, new.spec_version, new.sender))
    return StateConflict(
        f"There is a configuration of {new.path} for the same message, version and sender ({meant}): change that one."
    )


def _row(configuration: StoredNodeConfiguration, workspace: str) -> dict[str, Any]:
    """Any is stored as empty text: databases hold that nulls differ, and would store the same target twice."""
    anything = {name: getattr(configuration, name) or "" for name in ("message_root", "spec_version", "sender")}
    how = {name: getattr(configuration, name) for name in _HOW}
    return {**how, **anything, "path": configuration.path, "workspace": workspace}


def _configuration(row: Any) -> StoredNodeConfiguration:  # noqa: ANN401 - a row of the table
    return StoredNodeConfiguration(
        path=row.path,
        message_root=row.message_root or None,
        spec_version=row.spec_version or None,
        sender=row.sender or None,
        instructions=row.instructions,
        record_schema=row.record_schema,
        enabled=row.enabled,
        configuration_id=row.id,
    )
