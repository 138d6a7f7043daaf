"""Every value of every subtree and piece is found again at its place in the source."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from lxml import etree

from thresher.llm.evidence import Evidence, Leaf
from thresher.workflows.discovery import Limits, SourceDocument, Subtree, parse_paths, split
from thresher.workflows.discovery.excerpts import Excerpt, excerpt
from thresher.workflows.discovery.sample_messages import SampleSpec, write_sample


def sample() -> bytes:
    written = io.BytesIO()
    write_sample(SampleSpec(size_bytes=60_000), written)
    return written.getvalue()


def excerpt_of(document: SourceDocument, subtree: Subtree, begin: int, paths: list[str]) -> Excerpt:
    assert subtree.byte_range is not None
    start, end = subtree.byte_range
    before = document.slice(begin, start).decode(document.encoding.codec).encode()
    return excerpt(before + document.slice(start, end).decode(document.encoding.codec).encode(), paths, len(before))


def marked(found: Excerpt, leaf: Leaf) -> str:
    """The value that stands at the place of a leaf."""
    place = found.places[leaf.source_path]
    text = found.xml[place.start : place.end]
    if leaf.is_attribute:
        name, _, value = text.partition("=")
        assert name.rpartition(":")[2] == leaf.name
        element = etree.fromstring(f"<a b={value}/>")
        return " ".join(str(element.get("b")).split())
    closed = etree.fromstring(text.encode(), etree.XMLParser(recover=True))
    return " ".join("".join(closed.itertext()).split())


@pytest.mark.parametrize("largest", [32_768, 1_024])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "gzip"])
def test_every_value_is_found_at_its_place(tmp_path: Path, encoding: str, largest: int) -> None:
    content = sample()
    if encoding == "gzip":
        content = gzip.compress(content)
    elif encoding != "utf-8":
        text = content.decode().replace("UTF-8", encoding, 1)
        content = text.encode(encoding, "xmlcharrefreplace")
    path = tmp_path / "document.xml"
    path.write_bytes(content)
    limits = Limits(max_subtree_bytes=largest)
    document = SourceDocument.open(path, limits)
    begins: dict[int, int] = {}
    pieces = 0
    for subtree in split(document, parse_paths(["//PaxList/Pax", "//Order"]), limits):
        assert subtree.byte_range is not None
        begin = begins.setdefault(subtree.target, subtree.byte_range[0])
        evidence = Evidence.of(etree.fromstring(subtree.xml.encode()), subtree.shells)
        found = excerpt_of(document, subtree, begin, [leaf.source_path for leaf in evidence.leaves])
        values: Mapping[str, str] = {leaf.source_path: leaf.value for leaf in evidence.leaves}
        assert {leaf.source_path: marked(found, leaf) for leaf in evidence.leaves} == values
        pieces += subtree.piece > 0
    assert (pieces > 10) == (largest == 1_024)


@pytest.mark.parametrize("path", ["Nowhere", "B[9]", "@none", "B/@x[2]", "..", "B[", "é/Ü", "B[99999999999]"])
def test_a_path_that_leads_nowhere_has_no_place(path: str) -> None:
    assert excerpt(b"<A><B>1</B></A>", [path]).places == {}


def test_an_element_that_is_cut_off_reaches_to_the_end() -> None:
    found = excerpt(b"<A><B>1</B><C>lon", ["C", "B", "."])
    assert {path: found.xml[place.start : place.end] for path, place in found.places.items()} == {
        "B": "<B>1</B>",
        "C": "<C>lon",
        ".": "<A><B>1</B><C>lon",
    }


def test_the_tags_around_a_piece_are_shown_above_it() -> None:
    element = b'<A id="7"><X>0</X><L n="1"><B>1</B><B c="2">2</B></L></A>'
    begin = element.index(b'<B c="2">')
    found = excerpt(element, ["@id", "X", "L/@n", "L/B[1]", "L/B[2]", "L/B[2]/@c"], begin)
    assert found.xml == '<A id="7"><L n="1"><B c="2">2</B></L></A>'
    assert found.above == len('<A id="7"><L n="1">')
    assert {path: found.xml[place.start : place.end] for path, place in found.places.items()} == {
        "@id": 'id="7"',
        "L/@n": 'n="1"',
        "L/B[2]": '<B c="2">2</B>',
        "L/B[2]/@c": 'c="2"',
    }
