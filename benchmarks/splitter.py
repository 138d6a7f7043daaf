"""The splitter alone, over lxml's iterparse with clearing and sibling deletion, on the same synthetic message.

Called with a way, a document and names of elements it goes over the document once and prints what that took. All ways
take the same elements, and must count as many: lxml is told the names of those that the splitter takes. The paths
chosen for a large message end in ``*``; handed on to lxml as it is, that made it report every element (3.8 million
instead of 150,000) and run at less than half its speed. lxml runs in a process that does not import Thresher: with
that alone it took up to a quarter longer. Looking over the document to choose paths is not timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from measurement import MEGABYTE, Folder, Row, Scale, folder

Pass = Callable[[], int]  # goes over a document, returns how many elements it took


def measure(scale: Scale) -> list[Row]:
    """Megabytes per second, each way in a process of its own, in turns; the paths are those chosen by default."""
    size = "10MB" if scale.quick else "200MB"
    with folder() as place:
        document = place.path / "large.xml"
        place.thresher("sample", "--size", size, "--output", document)
        tags = place.python("splitter.py", "tags", document).json["tags"]
        rounds = [_round(place, document, tags) for _ in range(scale.rounds)]
    bare = [speeds["split"] / speeds["iterparse"] for speeds in rounds]
    written = [speeds["split"] / speeds["iterparse_tostring"] for speeds in rounds]
    return [
        *(Row(f"{way}, {size}", [speeds[way] for speeds in rounds], "MB/s") for way in WAYS),
        Row("splitter over bare iterparse (elements seen, nothing made of them)", bare, "x", at_least=0.8),
        Row("splitter over iterparse that also writes each subtree out", written, "x"),
    ]


def _round(place: Folder, document: Path, tags: list[str]) -> dict[str, float]:
    """The speed of each way, in megabytes per second of CPU."""
    passes = {way: place.python("splitter.py", way, document, *tags).json for way in WAYS}
    if len({each["found"] for each in passes.values()}) != 1:
        message = f"the ways did not take the same elements: {passes}"
        raise RuntimeError(message)
    return {way: float(each["mb_per_second"]) for way, each in passes.items()}


def _split(document: Path, _tags: Collection[str]) -> Pass:
    from thresher.workflows.discovery import SourceDocument, split, survey

    source = SourceDocument.open(document)
    paths = survey(source).choose_paths()
    return lambda: sum(1 for _ in split(source, paths))


def _iterparse(document: Path, tags: Collection[str]) -> Pass:
    return lambda: _over_elements(document, tags, lambda _element: None)


def _iterparse_tostring(document: Path, tags: Collection[str]) -> Pass:
    from lxml import etree

    def write(element: object) -> object:
        return etree.tostring(element, encoding="unicode", with_tail=False)

    return lambda: _over_elements(document, tags, write)


def _over_elements(document: Path, tags: Collection[str], use: Callable[..., object]) -> int:
    from lxml import etree

    found = 0
    for _, element in etree.iterparse(document, events=("end",), tag=tags, resolve_entities=False):
        use(element)
        found += 1
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]
    return found


def _tags_taken(document: Path) -> list[str]:
    """The names of the elements that the splitter takes, with the message's own namespace."""
    from thresher.workflows.discovery import SourceDocument, split, survey

    source = SourceDocument.open(document)
    seen = survey(source)
    names = {subtree.node_type for subtree in split(source, seen.choose_paths())}
    return sorted(f"{{{seen.detection.namespace}}}{name}" for name in names)


WAYS = {"split": _split, "iterparse": _iterparse, "iterparse_tostring": _iterparse_tostring}


def main(way: str, document: Path, tags: Collection[str]) -> None:
    """Goes over a document one way; the clock starts with the pass."""
    if way == "tags":
        print(json.dumps({"tags": _tags_taken(document)}))
        return
    go_over = WAYS[way](document, tags)
    started = time.process_time()
    found = go_over()
    seconds = time.process_time() - started
    print(json.dumps({"found": found, "mb_per_second": document.stat().st_size / MEGABYTE / seconds}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
