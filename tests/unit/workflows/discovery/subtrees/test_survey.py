"""The survey: what stands where, how often, how large; and the paths that are chosen."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.workflows.discovery.subtrees import PathNode, SourceDocument, parse_paths, split, survey

OpenBytes = Callable[..., SourceDocument]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "INDEX.tsv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_the_natural_paths_of_real_documents_give_the_expected_counts(data_folder: Path) -> None:
    for row in rows(data_folder):
        paths = row["recommended subtree path (local names)"].split(" ; ")
        wanted = [int(count) for count in row["expected subtree count"].split(" ; ")]
        counts = dict.fromkeys(paths, 0)
        for each in split(SourceDocument.open(data_folder / row["file"]), parse_paths(paths)):
            counts[each.path.text] += each.piece == 0
        assert list(counts.values()) == wanted, row["file"]


def test_the_choice_for_real_documents_is_the_natural_one(data_folder: Path) -> None:
    for row in rows(data_folder):
        natural = set(row["recommended subtree path (local names)"].split(" ; "))
        chosen = [path.text for path in survey(SourceDocument.open(data_folder / row["file"])).choose_paths()]
        missing = natural - set(chosen)
        assert all(any(path.startswith(f"{each}/") for path in chosen) for each in missing), row["file"]
        assert not any(inner.startswith(f"{outer}/") for inner in chosen for outer in chosen), row["file"]


def test_counts_sizes_and_attributes_are_those_of_the_document(open_bytes: OpenBytes) -> None:
    found = survey(open_bytes(b"<r><a k='1'/><a>\xc3\xa9</a><b><a x='1' y='2'></a ></b></r>")).to_dict()
    paths = {each["path"]: each for each in found["paths"]}
    assert list(paths) == ["/r", "/r/a", "/r/b", "/r/b/a"]
    assert paths["/r/a"] | {"chosen": None} == {
        "path": "/r/a",
        "count": 2,
        "bytes_min": 9,
        "bytes_median": 9,
        "bytes_max": 10,
        "bytes_total": 19,
        "depth": 2,
        "attributes": ["k"],
        "chosen": None,
    }
    assert paths["/r/b/a"]["attributes"] == ["x", "y"]
    assert found["complete"] is True
    json.dumps(found)


def test_a_large_document_is_looked_at_from_its_beginning_only(tmp_path: Path) -> None:
    place = tmp_path / "large.xml"
    item = b"<Pax><PaxID>P1</PaxID><Name>Ann</Name></Pax>" * 1_000
    with place.open("wb") as stream:
        stream.write(
            b'<IATA_OrderViewRS xmlns="http://www.iata.org/IATA/2015/00/2019.2/IATA_OrderViewRS">'
            b"<Response><DataLists><PaxList>"
        )
        for _ in range(450):
            stream.write(item)
        stream.write(b"</PaxList></DataLists></Response></IATA_OrderViewRS>")
    found = survey(SourceDocument.open(place))
    assert not found.complete
    assert found.bytes_read < 3 * 1024 * 1024
    described = found.to_dict()
    assert found.detection.spec_version == "19.2"
    assert "DataLists/*/*" in described["chosen"]
    assert [each["path"] for each in described["paths"] if each["chosen"]] == [
        "/IATA_OrderViewRS/Response/DataLists/PaxList/Pax"
    ]


CHOICES = {
    "repeated records": ("<r><h/>" + "<item><a>1</a><b>2</b></item>" * 20 + "</r>", ["/r/item"]),
    "records in a wrapper each": ("<r>" + "<w><item><a>1</a><b>2</b></item></w>" * 20 + "</r>", ["/r/w/item"]),
    "nothing repeated": ("<r><a><b>x</b></a><c><d>y</d></c></r>", ["/r"]),
    "nothing repeated in wrappers": (f"<e><h>x</h><b><m><a>{'x' * 500}</a><c>y</c></m></b></e>", ["/e/b/m"]),
    "one value": ("<r>text</r>", ["/r"]),
    "an empty root": ("<r/>", ["/r"]),
    "too large for one prompt": (f"<r><a>{'x' * 40_000}</a><b>{'y' * 40_000}</b></r>", ["/r/a", "/r/b"]),
    "large records with small ones": (
        "<r>" + f"<big>{'<item><a>1</a><b>2</b></item>' * 2_000}</big>" * 2 + "</r>",
        ["/r/big/item"],
    ),
    "tiny leaves": ("<r>" + "<i>1</i>" * 100 + "</r>", ["/r/i"]),
}


@pytest.mark.parametrize(("content", "paths"), CHOICES.values(), ids=CHOICES.keys())
def test_the_choice_for_other_documents(content: str, paths: list[str], open_bytes: OpenBytes) -> None:
    assert [path.text for path in survey(open_bytes(content.encode())).choose_paths()] == paths


def test_single_members_of_ndc_lists_are_chosen_too(open_bytes: OpenBytes) -> None:
    content = (
        '<IATA_OrderViewRS xmlns="http://www.iata.org/IATA/2015/00/2019.2/IATA_OrderViewRS"><Response>'
        "<DataLists><PaxList><Pax><PaxID>1</PaxID></Pax></PaxList></DataLists>"
        "<Order><OrderID>1</OrderID><OrderItem><OrderItemID>1</OrderItemID></OrderItem></Order>"
        "</Response></IATA_OrderViewRS>"
    )
    chosen = {path.text.rpartition("/")[2] for path in survey(open_bytes(content.encode())).choose_paths()}
    assert chosen == {"Pax", "OrderItem"}


def test_a_document_of_many_names_is_described_in_bounds(open_bytes: OpenBytes) -> None:
    content = "<r>" + "".join(f"<n{n}><m{n}/></n{n}>" for n in range(8_000)) + "</r>"
    assert len(survey(open_bytes(content.encode())).to_dict()["paths"]) <= 500


def test_a_deep_document_is_described(open_bytes: OpenBytes) -> None:
    content = "<a>" * 256 + "</a>" * 256
    assert len(survey(open_bytes(content.encode())).to_dict()["paths"]) == 256


@given(st.lists(st.lists(st.integers(4, 10_000), max_size=1_500), max_size=6))
def test_sizes_taken_up_many_at_once_are_those_taken_up_one_by_one(batches: list[list[int]]) -> None:
    together, alone = PathNode("a", 1), PathNode("a", 1)
    for batch in batches:
        together.noted += batch
        together.settle()
        for size in batch:
            alone.noted.append(size)
            alone.settle()
    shown = ("sizes", "count", "total", "smallest", "largest")
    assert [getattr(together, name) for name in shown] == [getattr(alone, name) for name in shown]
