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

from thresher.workflows.discovery import Limits, SourceDocument, parse_paths, split

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
def test_a_natural_path_gives_exactly_the_expected_subtrees(file: str, path: str) -> None:
    assert DATA is not None
    limits = Limits()
    subtrees = split(SourceDocument.open(DATA / file, limits), parse_paths([path]), limits)
    assert sum(subtree.piece == 0 for subtree in subtrees) == INDEX[file][path]


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


def places_of(tree: etree._ElementTree, path: str) -> list[str]:
    """The exact paths of the nodes that an answer's XPath selects."""
    attribute = re.search(r"/@([\w.-]+)$", path)
    elements = tree.xpath(path[: attribute.start()] if attribute else path)
    end = f"/@{attribute.group(1)}" if attribute else ""
    return [exact(tree.getpath(element)) + end for element in elements]


@needs_data
@pytest.mark.parametrize("file", sorted({row["file"] for row in ANSWERS}))
def test_every_answer_inside_an_extracted_subtree_is_found_at_its_path_and_proved(
    thresher: Thresher, file: str
) -> None:
    result = discover(thresher, file, list(INDEX[file]))
    assert result["subtrees_matched"] == sum(INDEX[file].values())
    assert result["subtrees_processed"] == result["nodes_total"] >= result["subtrees_matched"]
    assert result["fields_grounded"] == result["fields_total"] > 0
    exported = thresher("facts", result["run_id"]).rows
    found = dict(values(exported))
    sections = tuple({f"{exact(fact['section_path'])}/" for fact in exported})
    tree = tree_by_local_names(file)
    inside = 0
    for row in (row for row in ANSWERS if row["file"] == file):
        places = [place for place in places_of(tree, row["path"]) if place.startswith(sections)]
        inside += bool(places)
        if places:
            assert (row["value"], True) in [found.get(place) for place in places], f"{row['field']} at {places}"
    assert inside > 0


@needs_data
@pytest.mark.parametrize("file", sorted(INDEX))
def test_without_a_path_the_subtrees_are_chosen_and_hold_most_of_the_document(thresher: Thresher, file: str) -> None:
    result = discover(thresher, file, [])
    assert result["status"] == "succeeded"
    assert result["nodes_total"] > 0
    assert result["fields_grounded"] == result["fields_total"] > 0
