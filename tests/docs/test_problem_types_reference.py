"""The reference lists every type of problem with its status."""

from __future__ import annotations

from pages import code, rows, text_of

from thresher.operations.problems import PROBLEMS


def test_every_type_of_problem_is_documented_with_its_status() -> None:
    cells = [row for row in rows(text_of("docs/reference/api.md")) if row[0].startswith("`/problems/")]
    assert {code(row[0])[0]: int(row[1]) for row in cells} == {one.type: one.status for one in PROBLEMS.values()}
