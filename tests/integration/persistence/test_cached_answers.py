"""Kept answers in both databases: found, counted, bounded, cleared."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.engine.work import Claim, JsonObject
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.repositories import cached_answers
from thresher.persistence.repositories.cached_answers import ROW_BYTES, CachedAnswers, cache_figures, clear_answers
from thresher.persistence.repositories.store import ItemRecords
from thresher.persistence.tables import Base, CachedAnswerRow

CLAIM = Claim(1, "r", "discovery", "k", (1,), "item", None, {}, 1, 0, "me")
NOW = datetime.now(UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW - timedelta(days=10)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def row(key: str, text: str = "{}", model: str = "m", uses: int = 0, cost: float | None = 0.5) -> JsonObject:
    origin = {"provider": "openai", "model": model, "prompt_tokens": 100, "completion_tokens": 20, "cost_usd": cost}
    return {"key": key, "answer": text, "uses": uses, **origin}


def used(key: str) -> JsonObject:
    return {"key": key, "answer": None, "uses": 1}


def write(db: ThreadSafeDatabaseManager, answers: CachedAnswers, *rows: JsonObject) -> None:
    items = [ItemRecords(CLAIM, [one]) for one in rows]
    db.write_with_lock(lambda session: answers.write(session.connection(), items))


def keys(db: ThreadSafeDatabaseManager) -> Sequence[str]:
    with db.read() as session:
        return session.scalars(sa.select(CachedAnswerRow.key).order_by(CachedAnswerRow.key)).all()


@pytest.fixture
def answers(db: ThreadSafeDatabaseManager) -> CachedAnswers:
    return CachedAnswers(db, 100_000, clock=Clock())


def test_what_was_written_is_found_as_it_was(db: ThreadSafeDatabaseManager, answers: CachedAnswers) -> None:
    text = '{"a": "100 % \N{EURO SIGN} :x %(y)s ?"}'
    assert (answers.find("k"), answers.holds_any("openai", "m")) == (None, False)
    write(db, answers, row("k", text))
    assert (answers.find("k"), answers.holds_any("openai", "m")) == (text, True)
    assert not answers.holds_any("azure", "m")
    assert not answers.holds_any("openai", "n")


def test_equal_keys_are_one_row_whose_uses_add_up(db: ThreadSafeDatabaseManager, answers: CachedAnswers) -> None:
    write(db, answers, row("k", "old"), row("k", "old", uses=1), used("k"), row("other"))
    write(db, answers, row("k", "new", uses=1), used("other"), used("nobody's"))
    assert (answers.find("k"), answers.find("nobody's")) == ("new", None)
    figures = cache_figures(db)[("openai", "m")]
    assert (figures.answers, figures.hits, figures.tokens_saved) == (2, 4, 480)
    assert figures.cost_saved_usd == pytest.approx(2.0)


def test_the_least_recently_used_go_first(db: ThreadSafeDatabaseManager, answers: CachedAnswers) -> None:
    text = "x" * (10_000 - ROW_BYTES)
    for number in range(10):
        write(db, answers, row(f"k{number}", text))
    assert len(keys(db)) == 10, "they just fit"
    write(db, answers, used("k0"))
    write(db, answers, row("k_new", text))
    assert set(keys(db)) == {"k0", "k_new", *(f"k{number}" for number in range(3, 10))}


def test_the_bound_holds_whatever_is_written(db: ThreadSafeDatabaseManager, answers: CachedAnswers) -> None:
    for number in range(60):
        write(db, answers, row(f"{number:03}", "x" * (5_000 + 37 * number % 900)))
        assert cache_figures(db)[("openai", "m")].size_bytes <= 100_000
    assert keys(db)[-1] == "059"


def test_an_answer_larger_than_the_bound_is_not_kept(db: ThreadSafeDatabaseManager, answers: CachedAnswers) -> None:
    write(db, answers, row("small"), row("large", "x" * 200_000))
    assert keys(db) == ["small"]


def test_a_bound_that_was_lowered_is_reached_in_bounded_steps(
    db: ThreadSafeDatabaseManager, answers: CachedAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_answers, "_OLDEST", cached_answers._OLDEST.limit(5))
    write(db, answers, *(row(f"{number:02}", "x" * 1_000) for number in range(30)))
    smaller = CachedAnswers(db, 16_000)
    left = []
    for number in range(5):
        write(db, smaller, row(f"new{number}", "x" * 1_000))
        left.append(len(keys(db)))
    assert left[:4] == [26, 22, 18, 14]
    assert cache_figures(db)[("openai", "m")].size_bytes <= 16_000


def test_a_group_that_is_rolled_back_leaves_nothing(db: ThreadSafeDatabaseManager, answers: CachedAnswers) -> None:
    def fail(session: Session) -> None:
        answers.write(session.connection(), [ItemRecords(CLAIM, [row("k")])])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.write_with_lock(fail)
    assert answers.find("k") is None


def test_processes_that_write_the_same_answers_do_not_block_each_other_for_good(
    db: ThreadSafeDatabaseManager, database_url: str
) -> None:
    """Two writers, each with a connection of its own, in opposite orders, at the bound, while a third one clears."""
    other = ThreadSafeDatabaseManager(create_engine(database_url))
    names = [f"{number:02}" for number in range(24)]

    def work(manager: ThreadSafeDatabaseManager, order: Sequence[str]) -> None:
        table = CachedAnswers(manager, 40_000)
        for turn in range(25):
            fresh, known = order[turn % 20 :], order[: turn % 20]
            write(manager, table, *(row(key, "x" * 1_500) for key in fresh), *(used(key) for key in known))

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work, db, names), pool.submit(work, other, names[::-1])]
        working.append(pool.submit(lambda: [clear_answers(db) for _ in range(5)] and None))
        for one in working:
            one.result(60)
    other.close()


def test_some_or_all_are_cleared(db: ThreadSafeDatabaseManager, answers: CachedAnswers) -> None:
    young = CachedAnswers(db, 100_000)
    write(db, answers, row("a"), row("b", model="n"))
    write(db, young, row("c"))
    assert clear_answers(db, model="none of these") == (0, 0)
    assert clear_answers(db, older_than=timedelta(days=20)) == (0, 0)
    assert clear_answers(db, "m", timedelta(days=2)) == (1, ROW_BYTES + 2)
    assert keys(db) == ["b", "c"]
    assert clear_answers(db) == (2, 2 * (ROW_BYTES + 2))
    assert cache_figures(db) == {}


def test_all_are_cleared_in_steps(
    db: ThreadSafeDatabaseManager, answers: CachedAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_answers, "_CLEARED_AT_ONCE", 3)
    write(db, answers, *(row(str(number)) for number in range(8)))
    assert clear_answers(db)[0] == 8
    assert list(keys(db)) == []


def test_an_unknown_price_is_not_told_as_nothing(db: ThreadSafeDatabaseManager, answers: CachedAnswers) -> None:
    write(db, answers, row("a"), row("b", cost=None))
    assert cache_figures(db)[("openai", "m")].cost_saved_usd == 0
    write(db, answers, used("b"))
    assert cache_figures(db)[("openai", "m")].cost_saved_usd is None


@pytest.mark.postgres
def test_a_look_up_survives_a_server_that_was_restarted(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    Base.metadata.create_all(engine)
    db = ThreadSafeDatabaseManager(engine)
    answers = CachedAnswers(db, 100_000)
    write(db, answers, row("k", "kept"))
    assert answers.find("k") == "kept"
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid()")
        )  # fmt: skip
    assert answers.find("k") == "kept"
    db.close()
