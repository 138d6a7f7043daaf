"""A database with its tables, and the store over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.repositories.node_facts import insert_node_facts
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.tables import Base


@pytest.fixture
def db(database_url: str) -> Iterator[ThreadSafeDatabaseManager]:
    engine = create_engine(database_url)
    Base.metadata.create_all(engine)
    manager = ThreadSafeDatabaseManager(engine)
    yield manager
    manager.close()
    assert engine.pool.checkedout() == 0, "a connection was not given back"


@pytest.fixture
def store(db: ThreadSafeDatabaseManager) -> SqlStore:
    return SqlStore(db, {"discovery": insert_node_facts})
