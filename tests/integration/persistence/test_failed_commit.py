"""A commit that fails is its caller's own trouble: whoever writes next finds the writer as if nothing had been."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session

from thresher.core.errors import ThresherError
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine


@pytest.fixture
def manager(database_url: str) -> ThreadSafeDatabaseManager:
    manager = ThreadSafeDatabaseManager(create_engine(database_url))
    with manager.transaction() as session:
        session.execute(sa.text("CREATE TABLE parents (id INTEGER PRIMARY KEY)"))
        session.execute(
            sa.text("CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
        )
    return manager


def orphan(session: Session) -> None:
    """Breaks a rule that is looked at when the transaction is committed."""
    session.execute(sa.text("INSERT INTO children VALUES (1)"))


def parent(session: Session) -> None:
    session.execute(sa.text("INSERT INTO parents VALUES (1)"))


def test_after_a_commit_that_failed_the_next_write_succeeds(manager: ThreadSafeDatabaseManager) -> None:
    try:
        for _ in range(3):
            with pytest.raises(ThresherError):
                manager.write_with_lock(orphan)
        manager.write_with_lock(parent)
        with pytest.raises(exc.IntegrityError), manager.transaction() as session:
            session.execute(sa.text("INSERT INTO children VALUES (2)"))
        manager.write_with_lock(orphan)
        with manager.read() as session:
            assert session.execute(sa.text("SELECT parent FROM children")).all() == [(1,)]
    finally:
        manager.close()
