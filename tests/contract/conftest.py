from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from contract_support import GROUP, Bench

from thresher.engine.executors.batch import BatchExecutor
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


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "sequential": SequentialExecutor,
    "threads": lambda: ThreadsExecutor(4),
    "batch": lambda: BatchExecutor(ThreadsExecutor(4), GROUP),
}


@pytest.fixture(params=EXECUTORS)
def bench(request: pytest.FixtureRequest, db: ThreadSafeDatabaseManager) -> Bench:
    return Bench(db, EXECUTORS[request.param])
