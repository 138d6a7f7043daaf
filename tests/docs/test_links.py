"""Pages lead to pages that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, name_of, prose, text_of

_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    found = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link}: no such file"
        assert target.is_relative_to(ROOT), f"{link}: outside of the project"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_the_index_names_every_page() -> None:
    index = text_of("docs/README.md")
    pages = {name_of(page).removeprefix("docs/") for page in PAGES if name_of(page).startswith("docs/")}
    assert pages - set(_LINK.findall(index)) == {"README.md"}


def test_pages_that_the_program_names_are_there() -> None:
    sources = (ROOT / "backend").rglob("*.py")
    named = {name for source in sources for name in re.findall(r"docs/[\w/.-]+\.md", source.read_text("utf-8"))}
    assert named
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]


def test_tests_that_the_laws_name_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/concepts/laws.md").read_text("utf-8"))
    assert len(named) > 20
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).is_file() or (test and f"def {test}(" not in (ROOT / file).read_text("utf-8"))
    ]
    assert missing == []
