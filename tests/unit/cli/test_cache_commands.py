"""The commands on kept answers, over a table that is filled by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from thresher.bootstrap import open_database
from thresher.cli import cache
from thresher.core.config import Settings
from thresher.persistence.tables import CachedAnswerRow


def kept(key: str, model: str, cost: float | None, *, days: int = 0, uses: int = 0) -> CachedAnswerRow:
    at = datetime.now(UTC) - timedelta(days=days)
    return CachedAnswerRow(
        key=key,
        provider="openai",
        model=model,
        answer="{}",
        prompt_tokens=90,
        completion_tokens=10,
        cost_usd=cost,
        size_bytes=1024**2,
        created_at=at,
        used_at=at,
        uses=uses,
    )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return Settings(database_url=f"sqlite:///{tmp_path / 'kept.db'}", cache_max_mb=8)


@pytest.fixture
def filled(settings: Settings) -> Settings:
    rows = [kept("a", "large", 0.5, uses=3), kept("b", "large", 0.5, days=9), kept("c", "own", None, uses=1)]
    with open_database(settings) as db, db.transaction() as session:
        session.add_all(rows)
    return settings


def stats(settings: Settings, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    cache.stats(settings, as_json=True)
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_what_is_kept_and_saved_in_all_and_by_model(filled: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    found = stats(filled, capsys)
    sums = {name: found[name] for name in ("enabled", "max_bytes", "answers", "bytes", "hits", "tokens_saved")}
    assert list(sums.values()) == [True, 8 * 1024**2, 3, 3 * 1024**2, 4, 400]
    assert found["cost_saved_usd"] is None, "the price of one model is unknown"
    large, own = found["models"]  # type: ignore[misc]  # a list of two
    assert (large["model"], large["cost_saved_usd"], own["model"], own["cost_saved_usd"]) == ("large", 1.5, "own", None)
    assert datetime.fromisoformat(large["oldest"]) < datetime.fromisoformat(large["newest"])


def test_people_get_a_sentence_and_a_table(filled: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    cache.stats(filled, as_json=False)
    out = capsys.readouterr().out
    assert "3 answers in 3.0 MB of 8.0 MB; used 4 times instead of a request: 400 tokens, cost unknown saved." in out
    assert "300 tokens, 1.5000 USD" in out


def test_an_empty_cache_says_how_it_is_filled(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    cache.stats(settings, as_json=False)
    assert "No answers are kept yet" in capsys.readouterr().out
    cache.stats(settings.model_copy(update={"cache_answers": False}), as_json=False)
    assert "CACHE_ANSWERS is false" in capsys.readouterr().out
    assert stats(settings, capsys)["oldest"] is None


def test_what_is_cleared_is_told(filled: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for model, days, said in (("none", None, "0 answers"), ("large", 5, "1 answers"), (None, None, "2 answers")):
        cache.clear(filled, model, days)
        assert f"{said} deleted" in capsys.readouterr().err
    assert stats(filled, capsys)["answers"] == 0
