"""The store's contract with the engine, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from thresher.core.errors import BadInput, NotFound
from thresher.engine.work import (
    AttemptRecord,
    AttemptStatus,
    Claim,
    Completion,
    Counts,
    ItemSpec,
    ItemStatus,
    Mode,
    NewRun,
    Outcome,
    Run,
    RunReport,
    RunStatus,
    Usage,
)
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.node_facts import (
    FactFilter,
    Grounding,
    fact_counts,
    insert_node_facts,
    sample_facts,
    stream_facts,
)
from thresher.persistence.repositories.store import SqlStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(db: ThreadSafeDatabaseManager, clock: Clock) -> SqlStore:
    return SqlStore(db, {"discovery": insert_node_facts}, clock=clock)


@pytest.fixture
def run(store: SqlStore) -> Run:
    return store.create_run(a_run())


def a_run(**changes: object) -> NewRun:
    values = {"kind": "discovery", "source": {"file": "a.xml"}, "options": {}, "mode": Mode.PARALLEL, "mode_reason": ""}
    return NewRun(**(values | changes))


def specs(count: int, payload: bytes = b"<a/>") -> list[ItemSpec]:
    return [ItemSpec(key=f"item-{number}", position=(number,), payload=payload) for number in range(count)]


def plan(store: SqlStore, run: Run, new: list[ItemSpec], planned: int | None = None) -> int:
    return store.add_items(run.run_id, new, len(new) if planned is None else planned)


def succeeded(claim: Claim, **outcome: object) -> Completion:
    attempt = AttemptRecord(claim.attempt, AttemptStatus.SUCCEEDED, NOW, 0.5, Usage(1, 10, 5, 2, 0.25))
    return Completion(claim, ItemStatus.SUCCEEDED, attempt, Outcome(**outcome))


def failed(claim: Claim, status: ItemStatus, retry_at: datetime | None = None) -> Completion:
    attempt = AttemptRecord(
        claim.attempt, AttemptStatus.FAILED, NOW, 0.5, error_class="RateLimited", error_message="no", raw_answer="{"
    )
    return Completion(claim, status, attempt, retry_at=retry_at, counts_as_failure=True)


def a_fact(node_type: str = "Pax", grounded: str = "+") -> dict[str, object]:
    return {
        "node_type": node_type,
        "node_ordinal": 1,
        "section_path": "/Order/Pax[1]",
        "extractor": "structural",
        "confidence": 0.9,
        "pii_masked": True,
        "fields": [
            {"name": f"f{place}", "value": "v", "path": "PaxID", "grounded": mark == "+"}
            for place, mark in enumerate(grounded)
        ],
        "fields_total": len(grounded),
        "fields_grounded": grounded.count("+"),
        "references": [{"name": "r", "value": "PAX1", "path": "Ref"}],
    }


def test_a_run_comes_back_as_it_was_stored(store: SqlStore) -> None:
    run = store.create_run(a_run(provider="openai", model="m", details={"n": 1}))
    assert store.get_run(run.run_id) == run
    assert (run.status, run.provider, run.details, run.created_at) == (RunStatus.PENDING, "openai", {"n": 1}, NOW)


def test_run_ids_sort_by_creation_even_within_one_millisecond(store: SqlStore) -> None:
    created = [store.create_run(a_run()).run_id for _ in range(20)]
    assert created == sorted(created)
    assert [run.run_id for run in store.list_runs(limit=3)] == created[:-4:-1]
    assert [run.run_id for run in store.list_runs(limit=2, before=created[5])] == [created[4], created[3]]


def test_runs_are_listed_by_workspace(store: SqlStore) -> None:
    mine = store.create_run(a_run(workspace="mine"))
    store.create_run(a_run())
    assert list(store.list_runs(workspace="mine")) == [mine]


def test_an_unknown_run_is_not_found(store: SqlStore) -> None:
    for call in (
        lambda: store.get_run("r0"),
        lambda: store.set_run_status("r0", RunStatus.RUNNING),
        lambda: store.add_items("r0", specs(1), 1),
        lambda: store.finish_planning("r0", {}),
        lambda: store.claim("r0", "me", 1, 60),
        lambda: store.find_run("r0"),
        lambda: store.find_run(""),
    ):
        with pytest.raises(NotFound):
            call()


def test_a_unique_prefix_finds_its_run_and_an_ambiguous_one_says_which(store: SqlStore, clock: Clock) -> None:
    first = store.create_run(a_run())
    clock.move(86_400)
    second = store.create_run(a_run())
    assert store.find_run(f" {second.run_id[:8].upper()}") == second
    assert store.find_run(first.run_id) == first
    with pytest.raises(BadInput, match=rf"{second.run_id}.*{first.run_id}"):
        store.find_run("r")


def test_the_first_move_to_running_is_the_start_and_every_move_clears_the_error(store: SqlStore, clock: Clock) -> None:
    run = store.create_run(a_run())
    store.set_run_status(run.run_id, RunStatus.RUNNING)
    clock.move(60)
    report = RunReport(
        run.run_id, RunStatus.FAILED, Mode.PARALLEL, "", Counts(dead=1), Usage(), 2.0, 4.0, 1, {"X": 1}, {"class": "X"}
    )
    store.end_run(report)
    ended = store.get_run(run.run_id)
    assert (ended.status, ended.error, ended.elapsed_seconds, ended.finished_at) == (
        RunStatus.FAILED,
        {"class": "X"},
        2.0,
        NOW + timedelta(seconds=60),
    )
    assert ended.report is not None
    assert (ended.report["speedup"], ended.report["counts"]["dead"]) == (2.0, 1)
    store.set_run_status(run.run_id, RunStatus.RUNNING)
    again = store.get_run(run.run_id)
    assert (again.error, again.started_at, again.finished_at) == (None, NOW, None)


def test_a_paused_run_has_not_finished(store: SqlStore, run: Run) -> None:
    store.end_run(RunReport(run.run_id, RunStatus.PAUSED, Mode.PARALLEL, "", Counts(), Usage(), 1.0, 0.0, 0, {}))
    paused = store.get_run(run.run_id)
    assert (paused.status, paused.finished_at) == (RunStatus.PAUSED, None)


def test_planning_ignores_known_keys_but_counts_how_far_it_came(store: SqlStore, run: Run) -> None:
    assert plan(store, run, specs(3)) == 3
    assert plan(store, run, [*specs(5), *specs(1)], planned=9) == 2
    assert plan(store, run, specs(2), planned=2) == 0, "another process that plans the same run is behind"
    assert plan(store, run, []) == 0
    store.finish_planning(run.run_id, {"matched": 5})
    store.finish_planning(run.run_id, {"sections": 1})
    planned = store.get_run(run.run_id)
    assert (planned.planned, planned.planning_complete) == (9, True)
    assert planned.details == {"matched": 5, "sections": 1}
    assert store.counts(run.run_id) == Counts(pending=5)


def test_the_same_key_in_two_runs_is_two_items(store: SqlStore, run: Run) -> None:
    other = store.create_run(a_run())
    assert plan(store, run, specs(1)) == plan(store, other, specs(1)) == 1


def test_claims_come_in_order_of_position_with_all_that_was_planned(store: SqlStore, run: Run) -> None:
    planned = [
        ItemSpec("c", (2,), b"3", {"a": [1]}, "stage"),
        ItemSpec("b", (1, 5), b"2"),
        ItemSpec("a", (1,), b"1"),
        ItemSpec("d", (10,), None),
    ]
    plan(store, run, planned)
    claims = store.claim(run.run_id, "me", 3, 60)
    assert [claim.key for claim in claims] == ["a", "b", "c"]
    assert claims[2] == Claim(
        claims[2].item_id, run.run_id, "discovery", "c", (2,), "stage", b"3", {"a": [1]}, 1, 0, "me"
    )
    assert [claim.key for claim in store.claim(run.run_id, "you", 9, 60)] == ["d"]
    assert store.claim(run.run_id, "me", 9, 60) == []
    assert store.counts(run.run_id) == Counts(running=4)


def test_what_finished_items_leave_is_used_again(store: SqlStore, db: ThreadSafeDatabaseManager, run: Run) -> None:
    """The file does not grow to the size of the source, though all of it went through."""
    for batch in range(50):
        new = [ItemSpec(key=f"{batch}-{n}", position=(batch, n), payload=bytes([batch]) * 3_000) for n in range(10)]
        store.add_items(run.run_id, new, planned=10 * (batch + 1))
        for claim in store.claim(run.run_id, "me", 10, 60):
            assert claim.payload == bytes([batch]) * 3_000
            assert store.finish(succeeded(claim))
    with db.read() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM item_payloads")) == 0
        if db.engine.dialect.name == "sqlite":
            size = session.scalar(sa.text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"))
            assert size < 750_000, "1.5 MB went through"


def test_of_two_specs_with_one_key_the_first_counts(store: SqlStore, run: Run) -> None:
    twice = [ItemSpec(key="a", position=(n,), payload=bytes([n])) for n in range(2)]
    assert store.add_items(run.run_id, twice, planned=2) == 1
    assert store.add_items(run.run_id, twice[1:], planned=2) == 0
    (claim,) = store.claim(run.run_id, "me", 5, 60)
    assert (claim.position, claim.payload) == ((0,), b"\0")


def test_skipped_items_are_planned_as_finished_and_keep_no_payload(store: SqlStore, run: Run) -> None:
    plan(store, run, [ItemSpec("a", (0,), b"secret", skip_reason="disabled")])
    assert store.counts(run.run_id) == Counts(skipped=1)
    assert store.claim(run.run_id, "me", 1, 60) == []


def test_finishing_writes_facts_attempt_state_and_children_together(
    store: SqlStore, run: Run, db: ThreadSafeDatabaseManager
) -> None:
    plan(store, run, specs(1))
    (claim,) = store.claim(run.run_id, "me", 1, 60)
    assert store.finish(succeeded(claim, records=[a_fact()], children=[ItemSpec("child", (0, 1))], result={"n": 1}))
    assert store.counts(run.run_id) == Counts(succeeded=1, pending=1)
    assert [fact["section_path"] for fact in stream_facts(db, run.run_id)] == ["/Order/Pax[1]"]
    totals = store.totals(run.run_id)
    assert (totals.usage, totals.item_seconds, totals.attempts) == (Usage(1, 10, 5, 2, 0.25), 0.5, 1)
    assert store.get_run(run.run_id).planned == 1, "children are no part of the plan"


def test_a_claim_that_is_no_longer_held_writes_nothing(
    store: SqlStore, run: Run, db: ThreadSafeDatabaseManager, clock: Clock
) -> None:
    plan(store, run, specs(1))
    (stale,) = store.claim(run.run_id, "me", 1, 60)
    clock.move(61)
    assert store.recover(run.run_id, lambda _: False, 3) == 1
    (fresh,) = store.claim(run.run_id, "me", 1, 60)
    assert not store.finish(succeeded(stale, records=[a_fact("stale")], children=[ItemSpec("child", (0, 1))]))
    assert store.finish(succeeded(fresh, records=[a_fact("fresh")]))
    assert not store.finish(succeeded(fresh, records=[a_fact("again")]))
    assert [fact["node_type"] for fact in stream_facts(db, run.run_id)] == ["fresh"]
    assert store.counts(run.run_id) == Counts(succeeded=1)
    assert store.totals(run.run_id).attempts == 2


def test_a_retry_waits_until_it_is_due(store: SqlStore, run: Run, clock: Clock) -> None:
    plan(store, run, specs(1))
    (claim,) = store.claim(run.run_id, "me", 1, 60)
    due = NOW + timedelta(seconds=30)
    assert store.finish(failed(claim, ItemStatus.PENDING, due))
    assert store.next_due(run.run_id) == due
    assert store.claim(run.run_id, "me", 1, 60) == []
    clock.move(30)
    (again,) = store.claim(run.run_id, "me", 1, 60)
    assert (again.attempt, again.failures, again.payload) == (2, 1, b"<a/>")
    assert store.totals(run.run_id).errors == {"RateLimited": 1}


def test_the_next_due_time_is_now_for_pending_the_lease_for_running_and_none_at_the_end(
    store: SqlStore, run: Run
) -> None:
    assert store.next_due(run.run_id) is None
    plan(store, run, specs(1))
    assert store.next_due(run.run_id) == NOW
    (claim,) = store.claim(run.run_id, "me", 1, 60)
    assert store.next_due(run.run_id) == NOW + timedelta(seconds=60)
    store.finish(succeeded(claim))
    assert store.next_due(run.run_id) is None


def test_released_claims_are_as_if_never_claimed(store: SqlStore, run: Run) -> None:
    plan(store, run, specs(2))
    claims = store.claim(run.run_id, "me", 2, 60)
    store.release(claims)
    store.release(claims)
    assert store.counts(run.run_id) == Counts(pending=2)
    assert [claim.attempt for claim in store.claim(run.run_id, "you", 2, 60)] == [1, 1]
    store.release(claims)
    assert store.counts(run.run_id) == Counts(running=2), "they are somebody else's by now"


def test_renewing_keeps_the_leases_of_one_owner_alive(store: SqlStore, run: Run, clock: Clock) -> None:
    plan(store, run, specs(3))
    store.claim(run.run_id, "me", 2, 60)
    store.claim(run.run_id, "you", 1, 60)
    clock.move(50)
    assert store.renew("me", 60) == 2
    clock.move(20)
    assert store.recover(run.run_id, lambda _: False, 3) == 1
    assert store.counts(run.run_id) == Counts(running=2, pending=1)


def test_items_of_a_dead_owner_are_recovered_before_their_lease_expires(store: SqlStore, run: Run) -> None:
    plan(store, run, specs(3))
    store.claim(run.run_id, "dead", 2, 60)
    store.claim(run.run_id, "alive", 1, 60)
    assert store.recover(run.run_id, lambda owner: owner == "dead", 3) == 2
    assert store.counts(run.run_id) == Counts(running=1, pending=2)
    assert store.totals(run.run_id).errors == {"WorkerLost": 2}


def test_an_item_that_is_lost_too_often_is_dead(store: SqlStore, run: Run) -> None:
    plan(store, run, specs(1))
    for _ in range(2):
        store.begin(store.claim(run.run_id, "dead", 1, 60))
        store.recover(run.run_id, lambda _: True, 2)
    assert store.counts(run.run_id) == Counts(dead=1)
    assert store.claim(run.run_id, "me", 1, 60) == []


def test_an_item_that_only_waits_in_processes_that_end_stays_open(store: SqlStore, run: Run) -> None:
    plan(store, run, specs(1))
    for _ in range(20):
        store.claim(run.run_id, "dead", 1, 60)
        assert store.recover(run.run_id, lambda _: True, 2) == 1
    (claim,) = store.claim(run.run_id, "me", 1, 60)
    assert (claim.losses, claim.attempt) == (1, 2), "the first may have begun, the others have not"
    assert store.totals(run.run_id).errors == {"WorkerLost": 1}


def test_beginning_tells_which_items_are_still_held(store: SqlStore, run: Run) -> None:
    plan(store, run, specs(2))
    mine, others = store.claim(run.run_id, "me", 1, 60)[0], store.claim(run.run_id, "you", 1, 60)[0]
    store.recover(run.run_id, lambda owner: owner == "you", 2)
    for _ in range(2):
        assert store.begin([mine, others]) == [mine]


def test_an_unknown_price_makes_the_total_unknown(store: SqlStore, run: Run) -> None:
    plan(store, run, specs(2))
    first, second = store.claim(run.run_id, "me", 2, 60)
    store.finish(succeeded(first))
    unpriced = AttemptRecord(1, AttemptStatus.SUCCEEDED, NOW, 0.1, Usage(1, 1, 1, 0, None))
    store.finish(Completion(second, ItemStatus.SUCCEEDED, unpriced))
    assert store.totals(run.run_id).usage == Usage(2, 11, 6, 2, None)


def test_text_that_databases_refuse_is_stored_with_replacement_characters(
    store: SqlStore, run: Run, db: ThreadSafeDatabaseManager
) -> None:
    plan(store, run, specs(1))
    (claim,) = store.claim(run.run_id, "me", 1, 60)
    odd = "a\0b\ud83dc\U0001f600"
    assert store.finish(succeeded(claim, result={"odd": odd}, records=[a_fact(odd)]))
    (fact,) = stream_facts(db, run.run_id)
    assert fact["node_type"] == "a\ufffdb\ufffdc\U0001f600"


def test_facts_are_streamed_in_document_order_over_many_pages(
    store: SqlStore, run: Run, db: ThreadSafeDatabaseManager
) -> None:
    plan(store, run, specs(40))
    for claim in reversed(store.claim(run.run_id, "me", 40, 60)):
        store.finish(succeeded(claim, records=[a_fact(f"{claim.position[0]:02}-{n:02}") for n in range(30)]))
    types = [fact["node_type"] for fact in stream_facts(db, run.run_id)]
    assert types == [f"{item:02}-{n:02}" for item in range(40) for n in range(30)]
    assert [fact["node_type"] for fact in stream_facts(db, run.run_id, FactFilter("07-03"))] == ["07-03"]


def test_ungrounded_values_are_counted_but_exported_only_when_asked_for(
    store: SqlStore, run: Run, db: ThreadSafeDatabaseManager
) -> None:
    plan(store, run, specs(1))
    (claim,) = store.claim(run.run_id, "me", 1, 60)
    partly = a_fact("partly", "+-") | {"record": {"f0": "v", "f1": "lie"}}
    store.finish(succeeded(claim, records=[partly, a_fact("lies", "-"), a_fact("empty", "")]))
    proved = list(stream_facts(db, run.run_id))
    assert [(fact["node_type"], [field["name"] for field in fact["fields"]]) for fact in proved] == [
        ("partly", ["f0"]),
        ("empty", []),
    ]
    assert "record" not in proved[0]
    everything = list(stream_facts(db, run.run_id, FactFilter(grounding=Grounding.ALL)))
    assert [len(fact["fields"]) for fact in everything] == [2, 1, 0]
    assert everything[0]["record"] == {"f0": "v", "f1": "lie"}
    counts = fact_counts(db, run.run_id)
    assert (counts.facts, counts.fields_total, counts.fields_grounded) == (3, 3, 1)


def test_the_mode_of_a_run_is_that_of_its_newest_session(store: SqlStore, run: Run) -> None:
    store.set_run_mode(run.run_id, Mode.SEQUENTIAL, "--sequential was given")
    changed = store.get_run(run.run_id)
    assert (changed.mode, changed.mode_reason) == (Mode.SEQUENTIAL, "--sequential was given")
    with pytest.raises(NotFound):
        store.set_run_mode("r0", Mode.PARALLEL, "")


def test_a_sample_has_facts_of_every_type_in_document_order(
    store: SqlStore, run: Run, db: ThreadSafeDatabaseManager
) -> None:
    store.add_items(run.run_id, specs(9), planned=9)
    for claim in reversed(store.claim(run.run_id, "me", 9, 60)):
        number = claim.position[0]
        fact = a_fact("Pax" if number < 7 else "Offer", "+-") | {"section_path": f"/Order/{number}"}
        store.finish(succeeded(claim, records=[fact]))

    def paths(limit: int) -> list[object]:
        return [fact["section_path"] for fact in sample_facts(db, run.run_id, limit)]

    assert paths(2) == ["/Order/0", "/Order/7"]
    assert paths(5) == ["/Order/0", "/Order/1", "/Order/2", "/Order/7", "/Order/8"]
    assert len(paths(50)) == 9
    fields: object = sample_facts(db, run.run_id, 1)[0]["fields"]
    assert [field["grounded"] for field in fields] == [True, False]  # type: ignore[attr-defined]
