from __future__ import annotations

from pathlib import Path

import pytest
from command import Thresher


@pytest.fixture
def thresher(tmp_path: Path) -> Thresher:
    """The command line on an SQLite database of its own."""
    return Thresher(tmp_path)


@pytest.fixture
def thresher_on(tmp_path: Path, database_url: str) -> Thresher:
    """The command line on each kind of database."""
    return Thresher(tmp_path, {"DATABASE_URL": database_url})
