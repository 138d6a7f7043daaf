from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from lxml import etree

from thresher.llm.evidence import Evidence


def look_up(root: etree._Element, path: str) -> list[str]:
    """The values at a path by lxml's own XPath: an oracle that shares no code with ``Evidence``."""
    steps = []
    for step in path.split("/"):
        mark, name, index = re.fullmatch(r"(@?)([^\[\]@]+)(\[\d+\])?", step).groups()
        steps.append("." if step == "." else f"{mark}*[local-name()='{name}']{index or ''}")
    found = root.xpath("/".join(steps))
    return [" ".join((node if isinstance(node, str) else node.xpath("string()")).split()) for node in found]


def real_documents() -> list[Path]:
    repository = Path(__file__).parents[3]
    places = [os.environ.get("THRESHER_DATA"), repository / "../shared/data", repository / "../../shared/data"]
    folder = next((Path(place) for place in places if place and Path(place).is_dir()), None)
    return sorted(folder.rglob("*.xml")) if folder else []


@pytest.mark.skipif(not real_documents(), reason="the real documents are not beside the repository (THRESHER_DATA)")
def test_values_of_real_documents_stand_where_lxml_finds_them() -> None:
    for document in real_documents():
        root = etree.parse(document).getroot()
        evidence = Evidence.of(root)
        for leaf in evidence.leaves[:: 1 + len(evidence.leaves) // 50]:
            assert leaf in evidence.at(leaf.path)
            assert leaf.value in look_up(root, leaf.source_path)
