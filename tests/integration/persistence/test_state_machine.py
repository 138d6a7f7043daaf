"""Law 1 and the leases under any sequence of claim, finish, expire, recover, release, retry, pause and cancel."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from thresher.core.errors import StateConflict
from thresher.engine.work import (
    ENDED,
    AttemptRecord,
    AttemptStatus,
    Claim,
    Completion,
    ItemSpec,
    ItemStatus,
    Mode,
    NewRun,
    Outcome,
    RunRequest,
    RunStatus,
)
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.repositories.items import Chosen, retry_items
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
        self.begun: dict[str, int] = {}
        self.facts: dict[str, str] = {}
        self.requested: RunRequest | None = None
        self.run_status = RunStatus.PENDING
        self.finished: set[tuple[str, int]] = set()

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()

    @rule(numbers=st.lists(st.integers(0, 9), max_size=4))
    def plan(self, numbers: list[int]) -> None:
        specs = [ItemSpec(f"item-{number}", (number,), b"<a/>") for number in numbers]
        is_refused = self.requested is RunRequest.CANCEL
        new = set() if is_refused else {spec.key for spec in specs} - self.status.keys()
        assert self.store.add_items(self.run_id, specs, len(specs)) == len(new)
        self.status |= dict.fromkeys(new, ItemStatus.PENDING)

    @rule(target=claims, owner=owners, limit=st.integers(1, 4))
    def claim(self, owner: str, limit: int) -> object:
        pending = [key for key, status in self.status.items() if status is ItemStatus.PENDING]
        due = [] if self.requested else [key for key in pending if self.due.get(key, self.now) <= self.now]
        expected = sorted(due, key=place)[:limit]
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
        children=st.integers(0, 2),
    )
    def finish(self, claim: Claim, status: ItemStatus, wait: int, children: int) -> None:
        succeeded = status is ItemStatus.SUCCEEDED
        fact = f"attempt {claim.attempt}"
        attempt = AttemptRecord(
            claim.attempt, AttemptStatus.SUCCEEDED if succeeded else AttemptStatus.FAILED, self.now, 0.0
        )
        depth, place_ = len(claim.position), claim.position
        born = [ItemSpec(f"{claim.key}/{n}", (*place_, n)) for n in range(children)] if depth < 3 and succeeded else []
        completion = Completion(
            claim,
            status,
            attempt,
            Outcome(records=[_fact(fact)] if succeeded else [], children=born),
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
                assert (claim.key, claim.attempt) not in self.finished
                self.finished.add((claim.key, claim.attempt))
                for child in born:
                    self.status.setdefault(child.key, ItemStatus.PENDING)

    @rule(claim=claims)
    def begin(self, claim: Claim) -> None:
        is_held = self.held.get(claim.key, (None,))[0] == claim
        assert self.store.begin([claim]) == ([claim] if is_held else [])
        if is_held:
            self.begun[claim.key] = claim.attempt

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
            claim, _ = self.held.pop(key)
            losses = self.losses.get(key, 0)
            had_begun = self.begun.get(key) == claim.attempt
            self.losses[key] = losses + (had_begun or not losses)
            is_dead = had_begun and self.losses[key] >= MAX_LOSSES
            self.status[key] = ItemStatus.DEAD if is_dead else ItemStatus.PENDING
            back += not is_dead
        assert self.store.recover(self.run_id, lambda owner: owner == dead, MAX_LOSSES) == back

    @rule(cancelled=st.booleans())
    def retry(self, *, cancelled: bool) -> None:
        if self.refuses_to_go_on(is_reopened=cancelled):
            with pytest.raises(StateConflict):
                retry_items(self.db, self.run_id, Chosen(cancelled=cancelled))
            return
        states = {ItemStatus.DEAD, ItemStatus.CANCELLED} if cancelled else {ItemStatus.DEAD}
        back = [key for key, status in self.status.items() if status in states]
        assert retry_items(self.db, self.run_id, Chosen(cancelled=cancelled)) == len(back)
        for key in back:
            self.status[key] = ItemStatus.PENDING
            self.losses.pop(key, None)
        self.go_on()

    @rule()
    def begin_or_resume(self) -> None:
        if self.refuses_to_go_on(is_reopened=False):
            with pytest.raises(StateConflict):
                self.store.withdraw(self.run_id)
            return
        self.store.withdraw(self.run_id)
        self.go_on()
        self.store.set_run_status(self.run_id, RunStatus.RUNNING)
        self.run_status = RunStatus.RUNNING

    @rule(request=st.sampled_from(RunRequest))
    def request(self, request: RunRequest) -> None:
        is_late = request is RunRequest.PAUSE and self.requested is RunRequest.CANCEL
        if self.run_status in ENDED or is_late:
            with pytest.raises(StateConflict):
                self.store.request(self.run_id, request)
            return
        self.requested = request
        self.settled()
        assert self.store.request(self.run_id, request).status is self.run_status

    @rule()
    def settle(self) -> None:
        self.settled()
        assert self.store.settle(self.run_id) is self.requested

    def refuses_to_go_on(self, *, is_reopened: bool) -> bool:
        if self.run_status is RunStatus.CANCELLED:
            return not is_reopened
        return self.requested is RunRequest.CANCEL

    def go_on(self) -> None:
        self.requested = None
        if self.run_status is RunStatus.CANCELLED:
            self.run_status = RunStatus.PAUSED

    def settled(self) -> None:
        """What a request does as soon as nobody holds an item."""
        if self.requested is RunRequest.CANCEL:
            for key, status in self.status.items():
                if status is ItemStatus.PENDING:
                    self.status[key] = ItemStatus.CANCELLED
                    self.due.pop(key, None)
        if self.requested and not self.held:
            is_cancelled = self.requested is RunRequest.CANCEL
            self.run_status = RunStatus.CANCELLED if is_cancelled else RunStatus.PAUSED

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
        assert stored == [self.facts[key] for key in sorted(self.facts, key=place)]

    @invariant()
    def the_run_is_as_the_requests_made_it(self) -> None:
        if not hasattr(self, "store"):
            return
        run = self.store.get_run(self.run_id)
        assert (run.status, run.requested) == (self.run_status, self.requested)
        assert (run.finished_at is not None) == (run.status is RunStatus.CANCELLED)
        if run.status is RunStatus.CANCELLED:
            assert self.store.counts(self.run_id).open == 0
            assert self.store.next_due(self.run_id) is None

    @invariant()
    def no_attempt_has_a_number_twice_and_no_item_succeeds_twice(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.db.read() as session:
            attempts = session.execute(sa.text("SELECT item_id, number, status FROM attempts")).all()
        assert len({row[:2] for row in attempts}) == len(attempts)
        succeeded = [row[0] for row in attempts if row[2] == AttemptStatus.SUCCEEDED.value]
        assert len(set(succeeded)) == len(succeeded)

    @invariant()
    def the_next_due_time_is_the_earliest_or_has_passed(self) -> None:
        if not hasattr(self, "store"):
            return
        pending = [key for key, status in self.status.items() if status is ItemStatus.PENDING]
        times = [self.due.get(key, self.now) for key in pending] + [until for _, until in self.held.values()]
        due = self.store.next_due(self.run_id)
        assert (due and max(due, self.now)) == (max(min(times), self.now) if times else None)


def place(key: str) -> list[str]:
    """The order of positions: a child stands behind its parent."""
    return key.split("/")


def _fact(node_type: str) -> dict[str, object]:
    return {
        "node_type": node_type,
        "section_path": "/",
        "extractor": "test",
        "fields": [],
        "fields_total": 0,
        "fields_grounded": 0,
        "references": [],
    }


TestItems = Items.TestCase
TestItems.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
