"""On real documents: exact counts for the natural paths, and every known answer at its path, proved."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, Thresher
from lxml import etree

PLACES = [os.environ.get("THRESHER_DATA", ""), ROOT.parent / "shared" / "data", ROOT.parent.parent / "shared" / "data"]
DATA = next((Path(place) for place in PLACES if place and Path(place, "INDEX.tsv").exists()), None)


def rows(name: str) -> list[dict[str, str]]:
    if DATA is None:
        return []
    with (DATA / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


INDEX = {
    row["file"]: dict(
        zip(
            row["recommended subtree path (local names)"].split(" ; "),
            map(int, row["expected subtree count"].split(" ; ")),
            strict=True,
        )
    )
    for row in rows("INDEX.tsv")
}
ANSWERS = [row for row in rows("ANSWERS.tsv") if not row["path"].startswith("count(")]
needs_data = pytest.mark.skipif(DATA is None, reason="the real documents are not beside this checkout (THRESHER_DATA)")


def discover(thresher: Thresher, file: str, paths: list[str]) -> dict[str, Any]:
    assert DATA is not None
    options = [part for path in paths for part in ("--path", path)]
    done = thresher("discover", DATA / file, *options, "--json", "--quiet")
    assert done.code == 0, done.err
    return done.json


@needs_data
@pytest.mark.parametrize(("file", "path"), [(file, path) for file, paths in INDEX.items() for path in paths])
def test_a_natural_path_gives_exactly_the_expected_subtrees(thresher: Thresher, file: str, path: str) -> None:
    result = discover(thresher, file, [path])
    assert result["subtrees_matched"] == INDEX[file][path]
    assert result["nodes_total"] >= result["subtrees_matched"]
    assert result["subtrees_processed"] == result["nodes_total"]
    assert result["fields_grounded"] == result["fields_total"] > 0


def exact(path: str) -> str:
    """A path with a counter at every element step."""
    steps = [step for step in path.split("/") if step]
    counted = [step if step.startswith("@") or step.endswith("]") else f"{step}[1]" for step in steps]
    return "/".join(counted)


def values(facts: list[dict[str, Any]]) -> Iterator[tuple[str, tuple[str, bool]]]:
    for fact in facts:
        for value in fact["fields"]:
            place = fact["section_path"] if value["path"] == "." else f"{fact['section_path']}/{value['path']}"
            yield exact(place), (value["value"], value["grounded"])


def tree_by_local_names(file: str) -> etree._ElementTree:
    assert DATA is not None
    tree = etree.parse(DATA / file, etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True))
    for element in tree.iter(etree.Element):
        element.tag = etree.QName(element).localname
    etree.cleanup_namespaces(tree)
    return tree


def place_of(tree: etree._ElementTree, path: str) -> str:
    """The exact path of the one node that an answer's XPath selects."""
    attribute = re.search(r"/@([\w.-]+)$", path)
    element_path = path[: attribute.start()] if attribute else path
    (element,) = tree.xpath(element_path)
    place = exact(tree.getpath(element))
    return f"{place}/@{attribute.group(1)}" if attribute else place


@needs_data
@pytest.mark.parametrize("file", sorted({row["file"] for row in ANSWERS}))
def test_every_answer_inside_an_extracted_subtree_is_found_at_its_path_and_proved(
    thresher: Thresher, file: str
) -> None:
    result = discover(thresher, file, list(INDEX[file]))
    exported = thresher("facts", result["run_id"])
    found = dict(values(exported.rows))
    sections = {exact(fact["section_path"]) for fact in exported.rows}
    tree = tree_by_local_names(file)
    inside = 0
    for row in (row for row in ANSWERS if row["file"] == file):
        place = place_of(tree, row["path"])
        if not any(place.startswith(f"{section}/") for section in sections):
            continue
        inside += 1
        assert found.get(place) == (row["value"], True), f"{row['field']} at {place}"
    assert inside > 0


@needs_data
@pytest.mark.parametrize("file", sorted(INDEX))
def test_without_a_path_the_subtrees_are_chosen_and_hold_most_of_the_document(thresher: Thresher, file: str) -> None:
    result = discover(thresher, file, [])
    assert result["status"] == "succeeded"
    assert result["nodes_total"] > 0
    assert result["fields_grounded"] == result["fields_total"] > 0
