"""Gold from a file: an export of facts that a person has corrected, or a table; with the line of whatever is wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from thresher.core.errors import BadInput
from thresher.workflows.discovery.evaluation import Gold, GoldNode, GoldValue, node_key
from thresher.workflows.discovery.spreadsheet_cells import plain_cell

COLUMNS = ("section_path", "name", "value")
_DELIMITERS = (",", "\t", ";")
_CELL_LIMIT = 2**31 - 1  # characters; Python's own limit of 131,072 is less than a document's longest texts


class _Row(NamedTuple):
    """A node and one of its values; ``value`` None names the node only: nothing is to be found there."""

    section_path: str
    value: GoldValue | None


def load_gold(path: Path) -> Gold:
    """Reads gold: what ``thresher facts`` writes (JSON lines, a JSON list, CSV), or a table of ``COLUMNS``.

    Which of them is seen from the content. Numbers in JSON are taken as they are written. References are not read.

    Raises:
        BadInput: the file cannot be read, is malformed, or holds nothing; the message says where and what.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            gold = _collected(_rows(stream, f"The gold file {path}"))
    except OSError as error:
        raise BadInput(f"Cannot read the gold file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The gold file {path} is not UTF-8 text (byte {error.start}).") from error
    if not gold:
        raise BadInput(f"The gold file {path} is empty. Make one from a run: thresher facts RUN --output {path}")
    return gold


def _collected(rows: Iterable[_Row]) -> Gold:
    nodes: dict[str, tuple[str, list[GoldValue]]] = {}
    for row in rows:
        _, values = nodes.setdefault(node_key(row.section_path), (row.section_path, []))
        if row.value is not None:
            values.append(row.value)
    return {key: GoldNode(section_path, values) for key, (section_path, values) in nodes.items()}


def _rows(stream: TextIO, what: str) -> Iterator[_Row]:
    first = next((character for character in iter(lambda: stream.read(1), "") if not character.isspace()), "")
    stream.seek(0)
    if first == "{":
        return _of_lines(stream, what)
    return _of_list(stream, what) if first == "[" else _of_table(stream, what)


# -- JSON ---------------------------------------------------------------------------------------------------


def _of_lines(stream: TextIO, what: str) -> Iterator[_Row]:
    for number, line in enumerate(stream, start=1):
        if line.strip():
            yield from _of_fact(_parsed(line.rstrip("\r\n"), what, number), f"{what}, line {number}")


def _of_list(stream: TextIO, what: str) -> Iterator[_Row]:
    for number, fact in enumerate(_parsed(stream.read(), what, 1), start=1):
        yield from _of_fact(fact, f"{what}, fact {number}")


def _parsed(text: str, what: str, line: int) -> Any:  # noqa: ANN401 # whatever the file holds
    """The values of JSON whose first line is ``line`` of the file; numbers as text, 12.50 stays 12.50."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1}, column {error.colno}"
        raise BadInput(f"{what} is not valid JSON at {place}: {error.msg}.") from error
    except RecursionError as error:
        raise BadInput(f"{what} is nested too deep (line {line}).") from error


def _of_fact(fact: Any, where: str) -> Iterator[_Row]:  # noqa: ANN401 # whatever the file holds
    if not isinstance(fact, dict):
        raise BadInput(f"{where} is no object; a fact looks like {_EXAMPLE}.")
    section_path = fact.get("section_path")
    if not isinstance(section_path, str) or not section_path.strip():
        raise BadInput(f"{where} has no section_path, which names its node, such as /OrderViewRS/Response[1]/Order[1].")
    fields = fact.get("fields")
    if not isinstance(fields, list):
        raise BadInput(f"{where} has no list of fields; a fact looks like {_EXAMPLE}.")
    yield _Row(section_path, None)
    for number, field in enumerate(fields):
        yield _Row(section_path, _of_field(field, f"{where}, fields[{number}]"))


_EXAMPLE = '{"section_path": "/r/a[1]", "fields": [{"name": "b", "value": "text"}]}'


def _of_field(field: Any, where: str) -> GoldValue:  # noqa: ANN401 # whatever the file holds
    if not isinstance(field, dict) or not isinstance(field.get("name"), str) or not field["name"]:
        raise BadInput(f"{where} has no name.")
    value, path = field.get("value"), field.get("path")
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, str):
        raise BadInput(f"{where} ({field['name']}) has no value: write text, or take out what is not to be found.")
    return GoldValue(field["name"], value, path if isinstance(path, str) else None)


# -- Tables -------------------------------------------------------------------------------------------------


def _of_table(stream: TextIO, what: str) -> Iterator[_Row]:
    head = stream.readline()
    if not head.strip():
        return
    delimiter = max(_DELIMITERS, key=head.count)
    columns = [cell.strip().lower() for cell in next(csv.reader([head], delimiter=delimiter))]
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise BadInput(
            f"{what} needs the columns {', '.join(COLUMNS)} in its first line; it lacks {', '.join(missing)}. "
            "It may also be JSON lines, as `thresher facts RUN` prints them."
        )
    for line, cells in _lines_of_table(stream, delimiter, what):
        if len(cells) > len(columns):
            raise BadInput(f"{what}, line {line} has {len(cells)} cells, its head {len(columns)}; put text in quotes.")
        row = {column: plain_cell(cell) for column, cell in zip(columns, cells, strict=False)}
        if row.get("kind", "field") == "field":
            yield _of_cells(row, f"{what}, line {line}")


def _lines_of_table(stream: TextIO, delimiter: str, what: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the number of the line they end in."""
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num + 1, cells  # the head was read before
    except csv.Error as error:
        raise BadInput(f"{what} is no valid table at line {reader.line_num + 1}: {error}.") from error


def _of_cells(row: Mapping[str, str], where: str) -> _Row:
    """A row without name and value names its node only."""
    section_path, name, value = (row.get(column, "") for column in COLUMNS)
    if not section_path.strip():
        raise BadInput(f"{where} has no section_path, which names its node.")
    if not name and value:
        raise BadInput(f"{where} has a value without a name.")
    return _Row(section_path, GoldValue(name, value, row.get("path") or None) if name else None)
