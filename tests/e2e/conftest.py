from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import started_browser
from command import Thresher
from playwright.sync_api import Browser


@pytest.fixture
def thresher(tmp_path: Path) -> Thresher:
    """The command line on an SQLite database of its own."""
    return Thresher(tmp_path)


@pytest.fixture
def thresher_on(tmp_path: Path, database_url: str) -> Thresher:
    """The command line on each kind of database."""
    return Thresher(tmp_path, {"DATABASE_URL": database_url})


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a process; each test visits with a context of its own."""
    yield from started_browser()
