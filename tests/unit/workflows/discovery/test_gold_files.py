from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.core.errors import BadInput
from thresher.workflows.discovery.evaluation import GoldValue
from thresher.workflows.discovery.fact_files import FORMATS
from thresher.workflows.discovery.gold_files import load_gold

TABLE = "section_path,name,value\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gold"


def loaded(file: Path, text: str) -> dict[str, list[tuple[str, str]]]:
    """Names and values by section path."""
    file.write_text(text, encoding="utf-8")
    return {node.section_path: [value[:2] for value in node.values] for node in load_gold(file).values()}


def fact(section_path: str, *values: tuple[str, str]) -> dict[str, Any]:
    written = [{"name": name, "value": value, "path": "b", "grounded": True} for name, value in values]
    head = ("run_id", "node_type", "node_ordinal", "extractor", "confidence", "pii_masked")
    reference = {"name": "ref", "value": "X", "path": "c", "grounded": True}
    return {"section_path": section_path, **dict.fromkeys(head, "-"), "fields": written, "references": [reference]}


text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12).filter(lambda t: not t.startswith("'"))


@pytest.mark.parametrize("form", list(FORMATS))
@given(values=st.lists(st.tuples(text.filter(str.strip), text), min_size=1, max_size=4))
def test_every_form_of_export_can_be_gold(
    form: str, values: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / f"gold.{form}"
    written = io.StringIO(newline="")
    written.writelines(FORMATS[form]([fact("/r/a[1]", *values)]))
    file.write_text(written.getvalue(), encoding="utf-8", newline="")
    (node,) = load_gold(file).values()
    assert list(node.values) == [GoldValue(name, value, "b") for name, value in values]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_as_spreadsheets_save_it(file: Path, delimiter: str, mark: str) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerows([("Value", "name ", "section_path"), ("1, 2; 3", "b", "/r/a[1]"), ("", "", "/r/a[2]"), ()])
    assert loaded(file, mark + stream.getvalue()) == {"/r/a[1]": [("b", "1, 2; 3")], "/r/a[2]": []}


def test_values_written_by_hand_are_taken_as_they_are_written(file: Path) -> None:
    line = '{"section_path": "/r/a", "fields": [{"name": "n", "value": 12.50}, {"name": "t", "value": true}]}\n\n'
    assert loaded(file, line) == {"/r/a": [("n", "12.50"), ("t", "true")]}


def test_rows_of_one_node_are_one_node_however_it_is_written(file: Path) -> None:
    assert loaded(file, f"{TABLE}/r/a[1],b,1\nr/a,c,2\n") == {"/r/a[1]": [("b", "1"), ("c", "2")]}


BAD = {
    "": ("is empty", "thresher facts RUN --output"),
    " \n \n": ("is empty",),
    "[]": ("is empty",),
    TABLE: ("is empty",),
    "hello\n": ("columns section_path, name, value", "JSON lines"),
    "section_path,name\n/r,a\n": ("lacks value",),
    f"{TABLE}/r,a,1,2\n": ("line 2", "4 cells", "quotes"),
    f'{TABLE}/r,a,"1\n': ("line", "no valid table"),
    f"{TABLE}/r,a,1\n,a,1\n": ("line 3", "no section_path"),
    f"{TABLE}/r,,1\n": ("line 2", "value without a name"),
    '{"section_path": "/r", "fields": []}\n{"section_path": "/r",\n': ("line 2, column 23",),
    '[{"section_path": "/r",\n "fields": [}]': ("line 2, column 13",),
    '{"section_path": "/r", "fields": []}\n[1]\n': ("line 2", "no object"),
    '{"fields": []}': ("line 1", "no section_path"),
    '{"section_path": " ", "fields": []}': ("no section_path",),
    '{"section_path": "/r"}': ("no list of fields",),
    '{"section_path": "/r", "fields": [{"name": "a", "value": "1"}, {"value": "1"}]}': ("fields[1]", "no name"),
    '{"section_path": "/r", "fields": [{"name": "a", "value": null}]}': ("fields[0] (a)", "no value"),
    '[{"section_path": "/r", "fields": []}, 7]': ("fact 2", "no object"),
    '{"a": ' + "[" * 100_000: ("nested too deep",),
}


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_what_is_wrong_with_a_file_is_said_with_its_place(file: Path, content: str) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(BadInput) as refused:
        load_gold(file)
    assert str(file) in str(refused.value)
    assert not [part for part in BAD[content] if part not in str(refused.value)], str(refused.value)


def test_files_that_cannot_be_read(file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        load_gold(file)
    with pytest.raises(BadInput, match="directory"):
        load_gold(tmp_path)
    file.write_bytes(json.dumps(fact("/r")).encode() + b"\n\xff")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_gold(file)
