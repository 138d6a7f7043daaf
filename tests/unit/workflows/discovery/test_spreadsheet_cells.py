from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.workflows.discovery.spreadsheet_cells import plain_cell, safe_cell

DANGEROUS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


@pytest.mark.parametrize("start", DANGEROUS)
@pytest.mark.parametrize("blanks", ["", " ", "   "])
def test_what_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(start: str, blanks: str) -> None:
    cell = f"{blanks}{start}cmd|'/c calc'!A1"
    assert safe_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "plain", "1-2", "a=b", "12C", "'quoted", None, 0.5, 7])
def test_other_cells_stay_as_they_are(cell: object) -> None:
    assert safe_cell(cell) == cell


def test_truth_is_written_as_in_json() -> None:
    assert (safe_cell(True), safe_cell(False)) == ("true", "false")  # noqa: FBT003 # the value of a cell


@given(st.text())
def test_no_cell_begins_like_a_formula_and_nothing_of_it_is_lost(text: str) -> None:
    cell = safe_cell(text)
    assert isinstance(cell, str)
    assert not cell.lstrip(" ").startswith(DANGEROUS)
    assert cell in (text, f"'{text}")


@given(st.text().filter(lambda text: not text.startswith("'")))
def test_a_cell_is_read_back_as_it_was(text: str) -> None:
    assert plain_cell(str(safe_cell(text))) == text
