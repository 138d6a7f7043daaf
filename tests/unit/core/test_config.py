from __future__ import annotations

from pathlib import Path

import pytest

from thresher.core.config import Settings, load_settings
from thresher.core.errors import BadConfiguration


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_options_win_over_the_environment_which_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("MAX_PARALLEL_NODES=3\nMAX_RETRIES=4\n")
    assert load_settings().max_parallel_nodes == 3
    monkeypatch.setenv("MAX_PARALLEL_NODES", "5")
    assert load_settings().max_parallel_nodes == 5
    assert load_settings(max_parallel_nodes=7).max_parallel_nodes == 7
    assert load_settings().max_retries == 4


def test_an_empty_value_means_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_PARALLEL_NODES", "PRICES_FILE", "LLM_PROVIDER", "DATABASE_URL", "ANSWER_MAX_FIELDS"):
        monkeypatch.setenv(name, "")
    assert load_settings() == Settings.model_construct()


def test_every_unusable_variable_is_named_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_RETRIES", "sk-secret")
    monkeypatch.setenv("MAX_DEPTH", "0")
    with pytest.raises(BadConfiguration, match=r"MAX_RETRIES: .*; MAX_DEPTH: ") as refusal:
        load_settings()
    assert "sk-secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'A=1\n\nB="2\n', r"\.env, line 3: this is no NAME=value"),
        (b"A=1\n=2\n", r"\.env, line 2: this is no NAME=value"),
        (b"A=\xe9\n", r"\.env is not UTF-8 text \(byte 2\)"),
    ],
)
def test_a_file_with_lines_that_cannot_be_read_is_refused(content: bytes, sentence: str) -> None:
    Path(".env").write_bytes(content)
    with pytest.raises(BadConfiguration, match=sentence):
        load_settings()


def test_comments_exports_and_blank_lines_are_fine() -> None:
    Path(".env").write_text("# a comment\n\nexport MAX_RETRIES=2 # two\nUNKNOWN=x\n")
    assert load_settings().max_retries == 2
