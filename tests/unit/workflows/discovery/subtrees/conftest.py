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


class Reading:
    """What lxml makes of a document."""

    @staticmethod
    def element_at(root: etree._Element, section_path: str) -> etree._Element:
        """The element at a counted path of local names."""
        steps = list(_steps(section_path))
        assert steps[0] == (etree.QName(root).localname, 1)
        for name, index in steps[1:]:
            elements = [child for child in root if isinstance(child.tag, str)]
            root = [child for child in elements if etree.QName(child).localname == name][index - 1]
        return root

    @classmethod
    def shape(cls, element: etree._Element) -> object:
        """Everything that an element says, whatever prefixes it uses to say it."""
        if not isinstance(element.tag, str):
            return (element.tag, getattr(element, "target", None), element.text)
        inside = [(cls.shape(child), child.tail or "") for child in element]
        return (element.tag, dict(element.attrib), element.text or "", inside)


@pytest.fixture(scope="session")
def reading() -> type[Reading]:
    return Reading
