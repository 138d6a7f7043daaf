"""The splitter alone, over lxml's iterparse with clearing and sibling deletion, on the same synthetic message.

Called with a way and a document it goes over the document once and prints what that took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from measurement import MEGABYTE, Folder, Row, Scale, folder


def measure(scale: Scale) -> list[Row]:
    """Megabytes per second, each way in a process of its own, in turns; the paths are those chosen by default."""
    size = "10MB" if scale.quick else "200MB"
    with folder() as place:
        document = place.path / "large.xml"
        place.thresher("sample", "--size", size, "--output", document)
        rounds = [{way: _speed(place, way, document) for way in WAYS} for _ in range(scale.rounds)]
    bare = [speeds["split"] / speeds["iterparse"] for speeds in rounds]
    written = [speeds["split"] / speeds["iterparse_tostring"] for speeds in rounds]
    return [
        *(Row(f"{way}, {size}", [speeds[way] for speeds in rounds], "MB/s") for way in WAYS),
        Row("splitter over bare iterparse (elements seen, nothing made of them)", bare, "x", at_least=0.8),
        Row("splitter over iterparse that also writes each subtree out", written, "x"),
    ]


def _speed(place: Folder, way: str, document: Path) -> float:
    return float(place.python("splitter.py", way, document).json["mb_per_second"])


def _split(document: Path) -> int:
    from thresher.workflows.discovery import SourceDocument, split, survey

    source = SourceDocument.open(document)
    return sum(1 for _ in split(source, survey(source).choose_paths()))


def _iterparse(document: Path) -> int:
    return _over_elements(document, lambda _element: None)


def _iterparse_tostring(document: Path) -> int:
    from lxml import etree

    return _over_elements(document, lambda element: etree.tostring(element, encoding="unicode", with_tail=False))


def _over_elements(document: Path, use: Callable[..., object]) -> int:
    from lxml import etree

    found = 0
    for _, element in etree.iterparse(document, events=("end",), tag=_tags(document), resolve_entities=False):
        use(element)
        found += 1
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]
    return found


def _tags(document: Path) -> Collection[str]:
    """The names of the elements that the splitter would take, with the message's own namespace."""
    from thresher.workflows.discovery import SourceDocument, survey

    seen = survey(SourceDocument.open(document))
    names = {path.text.rpartition("/")[2] for path in seen.choose_paths()}
    return sorted(f"{{{seen.detection.namespace}}}{name}" for name in names)


WAYS = {"split": _split, "iterparse": _iterparse, "iterparse_tostring": _iterparse_tostring}


def main(way: str, document: Path) -> None:
    """Goes over a document one way; the clock starts with the pass, not with the imports."""
    _tags(document)
    started = time.process_time()
    found = WAYS[way](document)
    seconds = time.process_time() - started
    print(json.dumps({"found": found, "mb_per_second": document.stat().st_size / MEGABYTE / seconds}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
