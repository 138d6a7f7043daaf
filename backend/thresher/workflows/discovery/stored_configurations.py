"""Node configurations that a workspace keeps in the database."""

from __future__ import annotations

from collections.abc import Sequence

from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.node_configurations import StoredNodeConfiguration, list_node_configurations
from thresher.workflows.discovery.configurations import NodeConfiguration


def stored_nodes(db: ThreadSafeDatabaseManager, workspace: str) -> Sequence[NodeConfiguration]:
    """All configurations of a workspace."""
    return [from_stored(stored) for stored in list_node_configurations(db, workspace)]


def from_stored(stored: StoredNodeConfiguration) -> NodeConfiguration:
    """A configuration as the workflow knows it. It was checked when it was stored."""
    return NodeConfiguration(
        path=stored.path,
        message=stored.message_root,
        version=stored.spec_version,
        sender=stored.sender,
        instructions=stored.instructions,
        schema=None if stored.record_schema is None else dict(stored.record_schema),
        enabled=stored.enabled,
    )


def to_stored(node: NodeConfiguration) -> StoredNodeConfiguration:
    """A configuration as it is stored."""
    return StoredNodeConfiguration(
        path=node.path,
        message_root=node.message,
        spec_version=node.version,
        sender=node.sender,
        instructions=node.instructions,
        record_schema=node.record_schema,
        enabled=node.enabled,
    )
