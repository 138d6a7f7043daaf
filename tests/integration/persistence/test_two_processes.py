"""Two real processes work one run over one database: leases, fencing, and death by SIGKILL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter

import sqlalchemy as sa

from thresher.engine.work import Counts, ItemSpec, Mode, NewRun
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.node_facts import stream_facts
from thresher.persistence.repositories.store import SqlStore

ITEMS = 120

WORKER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from thresher.engine.work import AttemptRecord, AttemptStatus, Completion, ItemStatus, Outcome
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.repositories.node_facts import insert_node_facts
from thresher.persistence.repositories.store import SqlStore

url, run_id, owner, dies_after = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
store = SqlStore(ThreadSafeDatabaseManager(create_engine(url)), {"discovery": insert_node_facts})
finished = []

def work(claim):
    fact = {
        **{"node_type": owner, "section_path": claim.key, "extractor": "test"},
        **{"fields": [], "fields_total": 0, "fields_grounded": 0, "references": []},
    }
    attempt = AttemptRecord(claim.attempt, AttemptStatus.SUCCEEDED, datetime.now(UTC), 0.0)
    if store.finish(Completion(claim, ItemStatus.SUCCEEDED, attempt, Outcome(records=[fact]))):
        finished.append(claim.key)
    if dies_after and len(finished) >= dies_after:
        os._exit(9)

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(4) as pool:
    while claims := store.claim(run_id, owner, 8, 60):
        list(pool.map(work, claims))
print("\\n".join(finished))
"""


def start(url: str, run_id: str, owner: str, dies_after: int = 0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, url, run_id, owner, str(dies_after)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def together(*processes: subprocess.Popen[str]) -> list[list[str]]:
    """Lets them all begin; returns the keys that each says it has finished."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=90)[0].split() for process in processes]


def backends(db: ThreadSafeDatabaseManager) -> set[int]:
    """Processes of the database server that work for anybody here; SQLite has none."""
    if db.engine.dialect.name == "sqlite":
        return set()
    with db.read() as session:
        return set(session.scalars(sa.text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")))


def until_only(db: ThreadSafeDatabaseManager, before: set[int]) -> None:
    """The server ends what a dead client has sent; then its process for that client ends."""
    deadline = time.monotonic() + 30
    while further := backends(db) - before:
        assert time.monotonic() < deadline, further
        time.sleep(0.01)


def planned(store: SqlStore) -> str:
    run = store.create_run(NewRun("discovery", {}, {}, Mode.PARALLEL, "a test"))
    specs = [ItemSpec(f"item-{number}", (number,), b"<a/>") for number in range(ITEMS)]
    store.add_items(run.run_id, specs, len(specs))
    return run.run_id


def test_no_item_is_worked_by_two_processes(store: SqlStore, db: ThreadSafeDatabaseManager, database_url: str) -> None:
    run_id = planned(store)
    processes = [start(database_url, run_id, owner) for owner in ("one", "two", "three")]
    finished = [key for keys in together(*processes) for key in keys]
    assert sorted(finished) == sorted(f"item-{number}" for number in range(ITEMS))
    assert store.counts(run_id) == Counts(succeeded=ITEMS)
    assert store.totals(run_id).attempts == ITEMS
    facts = [fact["section_path"] for fact in stream_facts(db, run_id)]
    assert facts == [f"item-{number}" for number in range(ITEMS)]


def test_a_killed_process_loses_no_item_and_repeats_no_fact(
    store: SqlStore, db: ThreadSafeDatabaseManager, database_url: str
) -> None:
    run_id = planned(store)
    before = backends(db)
    together(start(database_url, run_id, "dies", dies_after=26))
    until_only(db, before)
    left = store.counts(run_id)
    assert left.total == ITEMS
    assert 3 <= left.running <= 6, "what the dead process had in hand"
    assert store.recover(run_id, lambda owner: owner == "dies", 3) == left.running
    together(start(database_url, run_id, "resumes"), start(database_url, run_id, "helps"))
    assert store.counts(run_id) == Counts(succeeded=ITEMS)
    facts = Counter(fact["section_path"] for fact in stream_facts(db, run_id))
    assert facts == Counter(f"item-{number}" for number in range(ITEMS))
    assert store.totals(run_id).errors == {"WorkerLost": left.running}
    with db.read() as session:
        numbers = session.execute(sa.text("SELECT item_id, number FROM attempts")).all()
    assert len(set(numbers)) == len(numbers) == ITEMS + left.running
