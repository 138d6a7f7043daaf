"""Documents from bytes, and a plain reading of them to compare with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lxml import etree

from thresher.workflows.discovery.subtrees import Limits, SourceDocument, Subtree, parse_paths, split

OpenBytes = Callable[..., SourceDocument]
SplitBytes = Callable[..., list[Subtree]]


@pytest.fixture(scope="session")
def open_bytes(tmp_path_factory: pytest.TempPathFactory) -> OpenBytes:
    folder = tmp_path_factory.mktemp("documents")
    numbers = itertools.count()

    def open_(content: bytes, limits: Limits | None = None, name: str = "document.xml") -> SourceDocument:
        place = folder / f"{next(numbers) % 50}-{name}"
        place.write_bytes(content)
        return SourceDocument.open(place, limits)

    return open_


@pytest.fixture(scope="session")
def split_bytes(open_bytes: OpenBytes) -> SplitBytes:
    def split_(content: bytes | str, *paths: str, limits: Limits | None = None) -> list[Subtree]:
        data = content.encode() if isinstance(content, str) else content
        return list(split(open_bytes(data, limits), parse_paths(paths), limits))

    return split_


@pytest.fixture(scope="session")
def data_folder() -> Path:
    places = [os.environ.get("THRESHER_DATA"), *("../shared/data", "../../shared/data")]
    root = Path(__file__).parents[5]
    for place in places:
        if place and (root / place / "INDEX.tsv").is_file():
            return root / place
    pytest.skip("the folder of real documents is not here; set THRESHER_DATA to run this")


def _steps(section_path: str) -> Iterator[tuple[str, int]]:
    for step in section_path.strip("/").split("/"):
        name, _, index = step.partition("[")
        yield name, int(index.rstrip("]")) if index else 1


@pytest.fixture(scope="session")
def element_at() -> Callable[[etree._Element, str], etree._Element]:
    def find(root: etree._Element, section_path: str) -> etree._Element:
        steps = list(_steps(section_path))
        assert steps[0] == (etree.QName(root).localname, 1)
        for name, index in steps[1:]:
            namesakes = [
                child for child in root if isinstance(child.tag, str) and etree.QName(child).localname == name
            ]
            root = namesakes[index - 1]
        return root

    return find


@pytest.fixture(scope="session")
def shape() -> Callable[[etree._Element], object]:
    """Everything that an element says, whatever prefixes it uses to say it."""

    def read(element: etree._Element) -> object:
        if not isinstance(element.tag, str):
            kind = "comment" if isinstance(element, etree._Comment) else f"instruction {element.target}"
            return (kind, element.text)
        inside = [(read(child), child.tail or "") for child in element]
        return (element.tag, dict(element.attrib), element.text or "", inside)

    return read
