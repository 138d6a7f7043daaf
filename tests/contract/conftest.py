from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from contract_support import Bench

from thresher.engine.executors.port import Executor
from thresher.engine.executors.sequential import SequentialExecutor
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.migrations import upgrade


@pytest.fixture
def db(database_url: str) -> Iterator[ThreadSafeDatabaseManager]:
    engine = create_engine(database_url)
    upgrade(engine)
    db = ThreadSafeDatabaseManager(engine)
    yield db
    db.close()


@pytest.fixture(params=["sequential", "threads"])
def bench(request: pytest.FixtureRequest, db: ThreadSafeDatabaseManager) -> Bench:
    make: Callable[[], Executor] = SequentialExecutor if request.param == "sequential" else (lambda: ThreadsExecutor(4))
    return Bench(db, make)
