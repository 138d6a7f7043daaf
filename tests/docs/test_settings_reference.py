"""Settings, .env.example and the reference say the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pages import ROOT, code, rows, text_of

from thresher.core.config import Settings

EXAMPLE = ROOT / ".env.example"
NAMES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in set(os.environ) & set(NAMES):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_example_has_every_setting_and_no_other() -> None:
    assert sorted(dotenv_values(EXAMPLE)) == sorted(NAMES)


def test_a_copy_of_the_example_changes_nothing(tmp_path: Path) -> None:
    defaults = Settings()
    (tmp_path / ".env").write_text(EXAMPLE.read_text("utf-8"), encoding="utf-8")
    assert Settings() == defaults


def test_every_default_of_the_example_is_the_program_s(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings()
    for name, value in dotenv_values(EXAMPLE).items():
        if not value:
            assert getattr(defaults, name.lower()) is None, name
            continue
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert getattr(Settings(), name.lower()) == getattr(defaults, name.lower()), name


def test_the_reference_has_every_setting_with_its_default() -> None:
    page = text_of("docs/reference/configuration.md")
    documented = {code(cells[0])[0]: (code(cells[1]) or [""])[0] for cells in rows(page)}
    assert documented == dotenv_values(EXAMPLE)


def test_each_setting_of_the_example_is_explained() -> None:
    explained = False
    for line in EXAMPLE.read_text("utf-8").splitlines():
        if line.startswith("# ---") or not line:
            explained = False
        elif line.startswith("#"):
            explained = True
        else:
            assert explained, f"{line} has no comment above it"
