"""Node configurations are unique by what they are for."""

from __future__ import annotations

from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.node_configurations import (
    StoredNodeConfiguration,
    list_node_configurations,
    upsert_node_configurations,
)


def test_configurations_come_back_as_they_were_stored(db: ThreadSafeDatabaseManager) -> None:
    stored = [
        StoredNodeConfiguration("A/B"),
        StoredNodeConfiguration("A/B", "OrderViewRS", "19.2", "XX", "Read it.", {"type": "object"}, enabled=False),
    ]
    upsert_node_configurations(db, stored)
    assert list_node_configurations(db) == stored


def test_the_same_target_is_replaced_even_where_it_means_any(db: ThreadSafeDatabaseManager) -> None:
    upsert_node_configurations(db, [StoredNodeConfiguration("A/B", instructions="old", record_schema={})])
    upsert_node_configurations(db, [StoredNodeConfiguration("A/B", instructions="new", enabled=False)])
    assert list_node_configurations(db) == [StoredNodeConfiguration("A/B", instructions="new", enabled=False)]


def test_workspaces_do_not_see_each_other(db: ThreadSafeDatabaseManager) -> None:
    upsert_node_configurations(db, [StoredNodeConfiguration("A/B")], "mine")
    upsert_node_configurations(db, [])
    assert list_node_configurations(db) == []
    assert list_node_configurations(db, "mine") == [StoredNodeConfiguration("A/B")]
