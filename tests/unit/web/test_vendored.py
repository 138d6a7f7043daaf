"""What is taken from others is unchanged, and its licence lies beside it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = [ROOT / "backend/thresher/web/static/vendor", ROOT / "tests/e2e/vendor"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_vendored_files_are_those_that_the_list_names(folder: Path) -> None:
    listed = re.findall(
        r"^\| (\S+) \|.*\((\S+\.LICENSE)\) \| ([0-9a-f]{64}) \|$", (folder / "VENDORED.md").read_text(), re.MULTILINE
    )
    assert {name for name, _, _ in listed} == {
        path.name for path in folder.iterdir() if path.suffix not in {".LICENSE", ".md"}
    }
    for name, licence, digest in listed:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert (folder / licence).stat().st_size > 0
