"""Node configurations: which paths are extracted, and how, per workspace."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.tables import NodeConfigurationRow

_TABLE: sa.Table = NodeConfigurationRow.metadata.tables[NodeConfigurationRow.__tablename__]
_TARGET = ("workspace", "message_root", "spec_version", "sender", "path")
_HOW = ("instructions", "record_schema", "enabled")


@dataclass(frozen=True, slots=True)
class StoredNodeConfiguration:
    """How the subtrees of one path are read; None for message, version or sender means any."""

    path: str
    message_root: str | None = None
    spec_version: str | None = None
    sender: str | None = None
    instructions: str | None = None
    record_schema: Mapping[str, Any] | None = None
    enabled: bool = True


def _upsert(insert: Any) -> Any:  # noqa: ANN401 - the two dialects' inserts share these methods, but no type
    return insert.on_conflict_do_update(
        index_elements=list(_TARGET), set_={name: insert.excluded[name] for name in _HOW}
    ).inline()


_UPSERT: Final[Mapping[str, sa.Executable]] = {
    "sqlite": _upsert(sqlite.insert(_TABLE)),
    "postgresql": _upsert(postgresql.insert(_TABLE)),
}


def list_node_configurations(
    db: ThreadSafeDatabaseManager, workspace: str = "default"
) -> Sequence[StoredNodeConfiguration]:
    """All configurations of a workspace, by message, version, sender and path."""
    query = (
        sa.select(NodeConfigurationRow)
        .where(NodeConfigurationRow.workspace == workspace)
        .order_by(*(_TABLE.c[name] for name in _TARGET))
    )
    with db.read() as session:
        return [_configuration(row) for row in session.scalars(query)]


def upsert_node_configurations(
    db: ThreadSafeDatabaseManager, configurations: Sequence[StoredNodeConfiguration], workspace: str = "default"
) -> None:
    """Stores configurations; one for the same message, version, sender and path is replaced. All or none of them."""
    if not configurations:
        return
    statement = _UPSERT[db.engine.dialect.name]
    rows = [_row(configuration, workspace) for configuration in configurations]

    def write(session: Session) -> None:
        session.connection().execute(statement, rows)

    db.write_with_lock(write)


def _row(configuration: StoredNodeConfiguration, workspace: str) -> dict[str, Any]:
    """Any is stored as empty text: databases hold that nulls differ, and would store the same target twice."""
    values = {field.name: getattr(configuration, field.name) for field in dataclasses.fields(StoredNodeConfiguration)}
    anything = {name: values[name] or "" for name in ("message_root", "spec_version", "sender")}
    return {**values, **anything, "workspace": workspace}


def _configuration(row: NodeConfigurationRow) -> StoredNodeConfiguration:
    return StoredNodeConfiguration(
        path=row.path,
        message_root=row.message_root or None,
        spec_version=row.spec_version or None,
        sender=row.sender or None,
        instructions=row.instructions,
        record_schema=row.record_schema,
        enabled=row.enabled,
    )
