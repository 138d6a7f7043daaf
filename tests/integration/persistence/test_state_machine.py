"""Law 1 and the leases under any sequence of claim, finish, expire, recover, release and retry."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from thresher.engine.work import (
    AttemptRecord,
    AttemptStatus,
    Claim,
    Completion,
    ItemSpec,
    ItemStatus,
    Mode,
    NewRun,
    Outcome,
)
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.repositories.items import retry_items
from thresher.persistence.repositories.node_facts import insert_node_facts, stream_facts
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.tables import Base

LEASE = 60.0
MAX_LOSSES = 3
owners = st.sampled_from(["one", "two"])


class Items(RuleBasedStateMachine):
    """A model of a run's items beside the store: the two must agree on every answer and every count."""

    claims = Bundle("claims")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        engine = create_engine(f"sqlite:///{Path(self.folder.name) / 'thresher.db'}")
        Base.metadata.create_all(engine)
        self.db = ThreadSafeDatabaseManager(engine)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.store = SqlStore(self.db, {"discovery": insert_node_facts}, clock=lambda: self.now)
        self.run_id = self.store.create_run(NewRun("discovery", {}, {}, Mode.PARALLEL, "")).run_id
        self.status: dict[str, ItemStatus] = {}
        self.held: dict[str, tuple[Claim, datetime]] = {}
        self.due: dict[str, datetime] = {}
        self.losses: dict[str, int] = {}
        self.facts: dict[str, str] = {}

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()

    @rule(numbers=st.lists(st.integers(0, 9), max_size=4))
    def plan(self, numbers: list[int]) -> None:
        specs = [ItemSpec(f"item-{number}", (number,), b"<a/>") for number in numbers]
        new = {spec.key for spec in specs} - self.status.keys()
        assert self.store.add_items(self.run_id, specs, len(specs)) == len(new)
        self.status |= dict.fromkeys(new, ItemStatus.PENDING)

    @rule(target=claims, owner=owners, limit=st.integers(1, 4))
    def claim(self, owner: str, limit: int) -> object:
        pending = [key for key, status in self.status.items() if status is ItemStatus.PENDING]
        expected = sorted(key for key in pending if self.due.get(key, self.now) <= self.now)[:limit]
        claims = self.store.claim(self.run_id, owner, limit, LEASE)
        assert [claim.key for claim in claims] == expected
        for claim in claims:
            self.status[claim.key] = ItemStatus.RUNNING
            self.held[claim.key] = (claim, self.now + timedelta(seconds=LEASE))
            self.due.pop(claim.key, None)
        return multiple(*claims)

    @rule(
        claim=claims,
        status=st.sampled_from([ItemStatus.SUCCEEDED, ItemStatus.DEAD, ItemStatus.PENDING, ItemStatus.SKIPPED]),
        wait=st.integers(0, 100),
    )
    def finish(self, claim: Claim, status: ItemStatus, wait: int) -> None:
        succeeded = status is ItemStatus.SUCCEEDED
        fact = f"attempt {claim.attempt}"
        attempt = AttemptRecord(
            claim.attempt, AttemptStatus.SUCCEEDED if succeeded else AttemptStatus.FAILED, self.now, 0.0
        )
        completion = Completion(
            claim,
            status,
            attempt,
            Outcome(records=[_fact(fact)] if succeeded else []),
            retry_at=self.now + timedelta(seconds=wait) if status is ItemStatus.PENDING else None,
            counts_as_failure=not succeeded,
        )
        is_held = self.held.get(claim.key, (None,))[0] == claim
        assert self.store.finish(completion) == is_held
        if is_held:
            del self.held[claim.key]
            self.status[claim.key] = status
            if status is ItemStatus.PENDING:
                self.due[claim.key] = self.now + timedelta(seconds=wait)
            if succeeded:
                self.facts[claim.key] = fact

    @rule(claim=consumes(claims))
    def release(self, claim: Claim) -> None:
        self.store.release([claim])
        if self.held.get(claim.key, (None,))[0] == claim:
            del self.held[claim.key]
            self.status[claim.key] = ItemStatus.PENDING

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(owner=owners)
    def renew(self, owner: str) -> None:
        mine = [key for key, (claim, _) in self.held.items() if claim.owner == owner]
        assert self.store.renew(owner, LEASE) == len(mine)
        for key in mine:
            self.held[key] = (self.held[key][0], self.now + timedelta(seconds=LEASE))

    @rule(dead=st.sampled_from(["", "one", "two"]))
    def recover(self, dead: str) -> None:
        lost = [key for key, (claim, until) in self.held.items() if until <= self.now or claim.owner == dead]
        back = 0
        for key in lost:
            del self.held[key]
            self.losses[key] = self.losses.get(key, 0) + 1
            is_dead = self.losses[key] >= MAX_LOSSES
            self.status[key] = ItemStatus.DEAD if is_dead else ItemStatus.PENDING
            back += not is_dead
        assert self.store.recover(self.run_id, lambda owner: owner == dead, MAX_LOSSES) == back

    @rule()
    def retry(self) -> None:
        dead = [key for key, status in self.status.items() if status is ItemStatus.DEAD]
        assert retry_items(self.db, self.run_id) == len(dead)
        for key in dead:
            self.status[key] = ItemStatus.PENDING
            self.losses.pop(key, None)

    @invariant()
    def counts_add_up(self) -> None:
        if not hasattr(self, "store"):
            return
        counts = self.store.counts(self.run_id)
        assert counts.total == len(self.status)
        for status in ItemStatus:
            assert getattr(counts, status.value) == list(self.status.values()).count(status)

    @invariant()
    def every_succeeded_item_has_exactly_its_facts(self) -> None:
        if not hasattr(self, "store"):
            return
        stored = [fact["node_type"] for fact in stream_facts(self.db, self.run_id)]
        assert stored == [self.facts[key] for key in sorted(self.facts)]

    @invariant()
    def the_next_due_time_is_the_earliest_or_has_passed(self) -> None:
        if not hasattr(self, "store"):
            return
        pending = [key for key, status in self.status.items() if status is ItemStatus.PENDING]
        times = [self.due.get(key, self.now) for key in pending] + [until for _, until in self.held.values()]
        due = self.store.next_due(self.run_id)
        assert (due and max(due, self.now)) == (max(min(times), self.now) if times else None)


def _fact(node_type: str) -> dict[str, object]:
    return {"node_type": node_type, "section_path": "/", "extractor": "test", "fields": [], "references": []}


TestItems = Items.TestCase
TestItems.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
