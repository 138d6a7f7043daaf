"""Nothing is paid twice: for every executor over every database, against a real model server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from contract_support import Bench, Plain, numbered

from thresher.bootstrap import Discovery, open_discovery
from thresher.core.config import Settings, load_settings
from thresher.core.errors import PermanentLLMError
from thresher.engine.control import Interrupted, RunControl
from thresher.engine.executors.sequential import SequentialExecutor
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.ports import AttemptContext
from thresher.engine.work import Claim, JsonObject, Outcome, RunReport, RunStatus
from thresher.llm.client import ModelReply, ModelRequest
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.cached_answers import cache_figures
from thresher.persistence.repositories.node_facts import FactFilter, Grounding, stream_facts
from thresher.persistence.repositories.store import ItemRecords, SqlStore
from thresher.testing.model_server import RunningModelServer, running_model_server
from thresher.workflows.discovery import DiscoveryRequest, DiscoveryWorkflow

Discover = Callable[..., RunReport]


@pytest.fixture(scope="module")
def quick_server() -> Iterator[RunningModelServer]:
    with running_model_server() as server:
        yield server


@pytest.fixture
def server(quick_server: RunningModelServer) -> RunningModelServer:
    quick_server.reset()
    return quick_server


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def settings_for(server: RunningModelServer, database_url: str, **more: object) -> Settings:
    return load_settings(
        database_url=database_url, openai_base_url=server.base_url, llm_model="m", retry_base_seconds=0.01, **more
    )


def document(folder: Path, *subtrees: str) -> Path:
    file = folder / "document.xml"
    file.write_text(f"<List>{''.join(subtrees)}</List>", encoding="utf-8")
    return file


def legs(count: int) -> list[str]:
    return [f"<Leg><Code>AMS</Code><Miles>{number}</Miles></Leg>" for number in range(count)]


EQUAL = "<Leg><Code>AMS</Code><Miles>7</Miles></Leg>"


def run_on(
    discovery: Discovery, file: Path, executor: SequentialExecutor | ThreadsExecutor, control: RunControl | None = None
) -> RunReport:
    new = DiscoveryWorkflow.prepare(DiscoveryRequest(file, ["/List/*"]), executor.mode, "a test")
    run = discovery.store.create_run(replace(new, provider="openai", model="m"))
    return discovery.runner.run(run.run_id, executor, [], control)


@pytest.fixture(params=["sequential", "threads"])
def discover(request: pytest.FixtureRequest) -> Discover:
    """Reads a document in what could be a process of its own; gives the report."""

    def run(settings: Settings, file: Path, workers: int = 8) -> RunReport:
        executor = SequentialExecutor() if request.param == "sequential" else ThreadsExecutor(workers)
        with open_discovery(settings) as discovery:
            return run_on(discovery, file, executor)

    return run


@contextmanager
def opened(settings: Settings) -> Iterator[ThreadSafeDatabaseManager]:
    with open_discovery(settings) as discovery:
        yield discovery.db


def exported(settings: Settings, report: RunReport) -> list[JsonObject]:
    with opened(settings) as db:
        return [{**fact, "run_id": ""} for fact in stream_facts(db, report.run_id, FactFilter(grounding=Grounding.ALL))]


def test_a_second_run_pays_nothing_and_one_changed_node_pays_for_one(
    discover: Discover, server: RunningModelServer, database_url: str, tmp_path: Path
) -> None:
    settings, file = settings_for(server, database_url), document(tmp_path, *legs(20))
    first = discover(settings, file)
    second = discover(settings, file)
    assert (first.usage.requests, first.usage.cache_hits) == (20, 0)
    assert (second.usage.requests, second.usage.cache_hits, second.usage.cost_usd) == (0, 20, 0)
    assert server.stats()["requests"] == 20
    facts = exported(settings, second)
    assert facts == exported(settings, first)
    assert len(facts) == 20
    with opened(settings) as db:
        assert (kept := cache_figures(db)[("openai", "m")]).answers == kept.hits == 20

    one_changed = [*legs(5), "<Leg><Code>LHR</Code></Leg>", *legs(20)[6:]]
    third = discover(settings, document(tmp_path, *one_changed))
    assert (third.usage.requests, third.usage.cache_hits, server.stats()["requests"]) == (1, 19, 21)


def test_equal_subtrees_are_asked_once(
    discover: Discover, server: RunningModelServer, sqlite_url: str, tmp_path: Path
) -> None:
    settings = settings_for(server, sqlite_url)
    report = discover(settings, document(tmp_path, EQUAL, *legs(3), EQUAL, EQUAL))
    assert (report.usage.requests, report.usage.cache_hits, server.stats()["requests"]) == (4, 2, 4)
    assert len(exported(settings, report)) == 6


def test_who_differs_only_in_what_is_masked_shares_the_answer_and_keeps_the_own_values(
    discover: Discover, server: RunningModelServer, sqlite_url: str, tmp_path: Path
) -> None:
    settings = settings_for(server, sqlite_url)
    names = ("Wilhelmina", "Hildegard")
    pax = [f"<Pax><PTC>ADT</PTC><Individual><GivenName>{name}</GivenName></Individual></Pax>" for name in names]
    report = discover(settings, document(tmp_path, *pax))
    assert server.stats()["requests"] == 1
    facts = [json.dumps(fact) for fact in exported(settings, report)]
    assert [[name in fact for name in names] for fact in facts] == [[True, False], [False, True]]
    assert '"grounded": false' not in "".join(facts)
    with opened(settings) as db, db.engine.connect() as connection:
        rows = str(connection.exec_driver_sql("SELECT * FROM cached_answers").all())
    assert "[NAME_1]" in rows
    assert not [word for word in (*names, "<PTC>", "<Pax>") if word in rows]


def test_switched_off_every_subtree_is_asked_and_nothing_is_kept(
    discover: Discover, server: RunningModelServer, sqlite_url: str, tmp_path: Path
) -> None:
    settings = settings_for(server, sqlite_url, cache_answers=False)
    for requests in (2, 4):
        assert discover(settings, document(tmp_path, EQUAL, EQUAL)).usage.requests == 2
        assert server.stats()["requests"] == requests
    with opened(settings) as db:
        assert cache_figures(db) == {}


def test_where_the_first_fails_the_others_still_get_an_answer(
    discover: Discover, sqlite_url: str, tmp_path: Path
) -> None:
    with running_model_server(error_500=0.6, seed=3) as failing:
        settings = settings_for(failing, sqlite_url, max_retries=10, breaker_failures=100)
        report = discover(settings, document(tmp_path, *[EQUAL] * 16))
        stats = failing.stats()
    assert report.status is RunStatus.SUCCEEDED
    failed = report.errors["TransientLLMError"]
    assert failed > 0, "the seed has to draw a failure first"
    assert (report.usage.requests, report.usage.cache_hits) == (stats["requests"], 15)
    assert stats["requests"] == failed + 1


def until_in_hand(discovery: Discovery, items: int) -> None:
    deadline = time.monotonic() + 60
    while discovery.runner.in_hand != items:
        assert time.monotonic() < deadline, f"{discovery.runner.in_hand} in hand, not {items}"
        time.sleep(0.01)


def test_64_equal_subtrees_at_64_workers_are_one_request(database_url: str, tmp_path: Path) -> None:
    with running_model_server() as server:
        with open_discovery(settings_for(server, database_url)) as discovery:
            complete = discovery.client.complete

            def complete_for_all(request: ModelRequest) -> ModelReply:
                until_in_hand(discovery, 64)
                return complete(request)

            discovery.client.complete = complete_for_all  # type: ignore[method-assign]
            report = run_on(discovery, document(tmp_path, *[EQUAL] * 64), ThreadsExecutor(64))
        assert server.stats()["requests"] == 1
    assert (report.usage.requests, report.usage.cache_hits, report.counts.succeeded) == (1, 63, 64)
    assert report.peak_concurrency == 64


def test_a_stop_ends_the_wait_and_keeps_what_was_paid(sqlite_url: str, tmp_path: Path) -> None:
    """Those who wait are pending again at once; the one answer that was under way is kept for them."""
    control = RunControl()
    with running_model_server() as server:
        settings, file = settings_for(server, sqlite_url), document(tmp_path, *[EQUAL] * 8)
        with open_discovery(settings) as discovery:
            client = discovery.client
            complete = client.complete

            def stop_when_asked(request: ModelRequest) -> ModelReply:
                until_in_hand(discovery, 8)
                control.stop("a test")
                until_in_hand(discovery, 1)
                return complete(request)

            client.complete = stop_when_asked  # type: ignore[method-assign]
            report = run_on(discovery, file, ThreadsExecutor(8), control)
            assert (report.status, report.counts.succeeded, report.counts.pending) == (RunStatus.PAUSED, 1, 7)
            client.complete = complete  # type: ignore[method-assign]
            report = discovery.runner.run(report.run_id, ThreadsExecutor(8), [])
        assert (report.status, server.stats()["requests"]) == (RunStatus.SUCCEEDED, 1)


# -- what the engine itself promises ------------------------------------------------------------------------


ENDS = [None, PermanentLLMError("no"), RuntimeError("a defect"), Interrupted("stopping")]


def attach(claim: Claim, context: AttemptContext) -> Outcome:
    context.attach("notes", {"note": claim.key})
    error = ENDS[int(claim.key[-1])] if claim.attempt == 1 else None
    if error is not None:
        raise error
    return Outcome()


def test_what_an_attempt_attached_is_written_with_its_end_however_it_ends(bench: Bench) -> None:
    written: list[str] = []
    in_transactions: list[bool] = []

    def write(connection: sa.Connection, items: Sequence[ItemRecords]) -> None:
        in_transactions.append(connection.in_transaction())
        written.extend(str(row["note"]) for item in items for row in item.records)

    bench.__dict__["store"] = SqlStore(bench.db, {"notes": write})
    report = bench.run(Plain(numbered(4), attach))
    assert (report.counts.succeeded, report.counts.dead) == (2, 2)
    assert sorted(written) == ["item-0", "item-1", "item-2", "item-3", "item-3"]
    assert all(in_transactions)


def test_what_nobody_writes_makes_its_item_dead_with_the_reason(bench: Bench) -> None:
    report = bench.run(Plain(numbered(1), attach))
    assert (report.status, report.errors) == (RunStatus.FAILED, {"PermanentError": 1})
