from __future__ import annotations

from pathlib import Path

import pytest

from thresher.web.visits import VisitBook, secret_in


def test_a_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    secret = secret_in(folder)
    assert secret_in(folder) == secret
    (kept,) = folder.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_visit_is_known_again_by_those_who_know_the_secret() -> None:
    ours, theirs = VisitBook(b"ours"), VisitBook(b"theirs")
    visit = ours.begin("k1")
    assert ours.read(ours.written(visit)) == visit
    assert theirs.read(ours.written(visit)) is None
    assert not theirs.is_token(visit, ours.token(visit))
    assert not ours.is_token(ours.begin("k1"), ours.token(visit))
    assert ours.is_token(ours.renewed(visit), ours.token(visit))


@pytest.mark.parametrize("cookie", [None, "", ".", "a.b.c", "a.b.c.d", "é.é", "a.b.1.\ud800"])
def test_anything_else_is_no_visit(cookie: str | None) -> None:
    assert VisitBook(b"ours").read(cookie) is None


def test_a_visit_that_is_over_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    book = VisitBook(b"ours")
    monkeypatch.setattr("thresher.web.visits.LASTS", -1)
    assert book.read(book.written(book.begin())) is None
