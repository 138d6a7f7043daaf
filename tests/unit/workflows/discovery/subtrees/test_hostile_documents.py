"""Hostile, broken and odd files: refused with one sentence that says what and where, or read as they are."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import os
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from thresher.core.errors import BadInput, MalformedDocument, UnsafeDocument
from thresher.workflows.discovery.subtrees import (
    Limits,
    SourceDocument,
    Subtree,
    parse_paths,
    recognise,
    split,
    survey,
)

SplitBytes = Callable[..., list[Subtree]]
OpenBytes = Callable[..., SourceDocument]

ENTITIES = {
    "external": '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/hostname">]><r><a>&e;</a></r>',
    "over http": '<!DOCTYPE r [<!ENTITY e SYSTEM "http://127.0.0.1:9/x">]><r><a>&e;</a></r>',
    "parameter": '<!DOCTYPE r [<!ENTITY % e SYSTEM "http://127.0.0.1:9/x"> %e;]><r><a/></r>',
    "internal": '<!DOCTYPE r [<!ENTITY e "text">]><r><a>before &e; after</a></r>',
    "unparsed": '<!DOCTYPE r [<!NOTATION n SYSTEM "n"><!ENTITY e SYSTEM "x" NDATA n>]><r><a/></r>',
    "laughs": "<!DOCTYPE r [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
    + "]><r><a>&a11;</a></r>",
    "quadratic": f"<!DOCTYPE r [<!ENTITY e '{'x' * 50_000}'>]><r><a>{'&e;' * 5_000}</a></r>",
}


@pytest.mark.parametrize("content", ENTITIES.values(), ids=ENTITIES.keys())
def test_declared_entities_are_refused(content: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(UnsafeDocument, match="declares the entity") as refused:
        split_bytes(content, "a")
    assert refused.value.line == 1


@pytest.mark.parametrize(
    "content",
    [
        '<!DOCTYPE r SYSTEM "r.dtd"><r><a>&nbsp;</a></r>',
        '<!DOCTYPE r SYSTEM "r.dtd"><r><a k="&nbsp;"/></r>',
        '<!DOCTYPE r [<!ATTLIST a xmlns:p CDATA "urn:p">]><r><t><a p:k="1"/></t></r>',
    ],
)
def test_what_only_a_dtd_could_explain_is_refused(content: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(UnsafeDocument):
        split_bytes(content, "a")


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE r>",
        '<!DOCTYPE r PUBLIC "-//X//Y" "http://127.0.0.1:9/none.dtd">',
        "<!DOCTYPE r [<!ELEMENT r ANY><!-- no entity -->]>",
        '<!DOCTYPE r [<!ATTLIST a k CDATA "d">]>',
    ],
)
def test_a_plain_doctype_is_fine(doctype: str, split_bytes: SplitBytes) -> None:
    (found,) = split_bytes(f"{doctype}<r><a>x</a></r>", "a")
    assert found.xml == "<a>x</a>"


BOMBS = {
    "depth": "<a>" * 300 + "</a>" * 300,
    "depth within a target": "<r><t>" + "<a>" * 260 + "</a>" * 260 + "</t></r>",
    "attributes": "<r><t " + " ".join(f'a{n}="1"' for n in range(2_000)) + "/></r>",
    "attributes within a target": "<r><t>" + "<x " + " ".join(f'a{n}="1"' for n in range(2_000)) + "/></t></r>",
    "attribute defaults": "<!DOCTYPE r [<!ATTLIST t "
    + " ".join(f'a{n} CDATA "{"x" * 100}"' for n in range(2_000))
    + ">]><r>"
    + "<t/>" * 10
    + "</r>",
    "a long default": f'<!DOCTYPE r [<!ATTLIST t a CDATA "{"x" * 100_000}">]><r><t/></r>',
    "a tag without end": "<r><t k='" + "x" * 3_000_000,
    "a comment without end": "<r><!-- " + "x" * 3_000_000,
    "a name without end": "<r><" + "x" * 3_000_000,
    "distinct names": "<r>" + "".join(f"<t><n{n}/></t>" for n in range(60_000)) + "</r>",
    "distinct names outside targets": "<r>" + "".join(f"<n{n}/>" for n in range(60_000)) + "</r>",
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
def test_what_goes_beyond_a_bound_is_refused(content: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(UnsafeDocument):
        split_bytes(content, "t", limits=Limits(max_token_bytes=1_000_000))


BROKEN = {
    "truncated": ("<r><a>1</a><a>", "ends before"),
    "truncated in a tag": ("<r><a>1</a><a k='", "ends"),
    "two roots": ("<r/><r/>", "after the end of the root"),
    "bare ampersand": ("<r>AT&T</r>", "line 1, column"),
    "unbound prefix": ("<r><p:a/></r>", "prefix"),
    "crossed tags": ("<r><a></r></a>", "end tag"),
    "double attribute": ("<r k='1' k='2'/>", "same attribute twice"),
    "double attribute by namespace": ("<r xmlns:a='u' xmlns:b='u' a:k='1' b:k='2'/>", "same attribute twice"),
    "nul": ("<r>\0</r>", "line 1, column 4"),
    "control character": ("<r>\x01</r>", "line 1, column 4"),
    "plain text": ("hello", "line 1"),
    "json": ('{"a": 1}', "line 1"),
    "html": ("<!DOCTYPE html><html><br></html>", "end tag"),
    "undeclared entity": ("<r>&nbsp;</r>", "does not declare"),
    "blanks only": (" \n\t ", "nothing but blanks"),
    "end in cdata": ("<r><![CDATA[x", "ends"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_not_well_formed_is_refused_with_its_place(content: str, said: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(MalformedDocument, match=said) as refused:
        split_bytes(content, "a")
    assert not isinstance(refused.value, UnsafeDocument)


def test_a_malformed_end_does_not_hide_what_came_before_but_is_raised(open_bytes: OpenBytes) -> None:
    document = open_bytes(b"<r>" + b"<a>1</a>" * 60_000 + b"</s>")
    found = split(document, parse_paths(["a"]))
    assert next(found).section_path == "/r/a[1]"
    with pytest.raises(MalformedDocument) as refused:
        list(found)
    assert (refused.value.line, refused.value.column) == (1, 480_006)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<r>\xff</r>", "column 4"),
        (b"<?xml version='1.0' encoding='no-such'?><r/>", "no-such"),
        (b"<?xml version='1.0' encoding='rot13'?><r/>", "rot13"),
        (b"<?xml version='1.0' encoding='unicode_escape'?><r/>", "unicode_escape"),
        (b"<?xml version='1.0' encoding='shift_jis'?><r>\xff\xff</r>", "shift_jis"),
        (b"<?xml version='1.0' encoding='us-ascii'?><r>\xe9</r>", "ascii"),
        ("<r>ä</r>".encode("utf-16")[:-1], "utf-16"),
    ],
)
def test_bytes_that_are_not_of_the_encoding_are_refused(content: bytes, said: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(MalformedDocument, match=said):
        split_bytes(content, "a")


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.xml", "<r/>")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_zip(), "zip"),
        (bz2.compress(b"<r/>"), "bzip2"),
        (b"\xfd7zXZ\x00rest", "xz"),
        (b"%PDF-1.7", "PDF"),
        (gzip.compress(gzip.compress(b"<r/>")), "gzip within gzip"),
        (gzip.compress(b"<r/>" * 1_000)[:-9], "cut off"),
        (b"\x1f\x8b\x08" + b"x" * 500, "damaged"),
        (b"", "empty"),
        (gzip.compress(b""), "nothing but blanks"),
    ],
    ids=["zip", "bzip2", "xz", "pdf", "gzip-in-gzip", "cut-off", "damaged", "empty", "blanks"],
)
def test_other_kinds_of_files_are_refused_with_what_to_do(content: bytes, said: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(BadInput, match=said):
        split_bytes(content, "a")


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(split_bytes: SplitBytes) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([packer.compress(b"<r>"), *(packer.compress(b" " * 1_000_000) for _ in range(100)), packer.flush()])
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeDocument, match="inflates"):
            split_bytes(bomb, "a")
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_document_over_the_size_allowed_is_refused(pack: Callable[[bytes], bytes], split_bytes: SplitBytes) -> None:
    with pytest.raises(UnsafeDocument, match="MAX_DOCUMENT_BYTES"):
        split_bytes(pack(b"<r>" + b"<a/>" * 1_000 + b"</r>"), "a", limits=Limits(max_document_bytes=1_000))


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "x.xml"
    {"missing": lambda: None, "folder": place.mkdir, "fifo": lambda: os.mkfifo(place)}[kind]()
    with pytest.raises(BadInput, match=r"x\.xml"):
        SourceDocument.open(place)


def test_five_million_empty_elements_need_little_memory(tmp_path: Path) -> None:
    place = tmp_path / "many.xml"
    place.write_bytes(b"<r>" + b"<a/>" * 1_000_000 + b"</r>")
    document = SourceDocument.open(place)
    tracemalloc.start()
    try:
        assert sum(1 for _ in split(document, parse_paths(["nothing"]))) == 0
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_huge_text_and_a_huge_root_target_are_split_in_little_memory(tmp_path: Path) -> None:
    place = tmp_path / "text.xml"
    with place.open("wb") as stream:
        stream.write(b"<r><t>")
        for _ in range(300):
            stream.write(b"some words of a long text " * 4_000)
        stream.write(b"</t></r>")
    document = SourceDocument.open(place)
    tracemalloc.start()
    try:
        sizes = [each.size_bytes for each in split(document, parse_paths(["/r"]))]
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()
    assert max(sizes) <= Limits().max_subtree_bytes
    assert sum(sizes) > place.stat().st_size


@pytest.mark.parametrize("look", [survey, recognise])
def test_a_look_refuses_what_the_splitter_refuses(open_bytes: OpenBytes, look: Callable[..., object]) -> None:
    for content in [*ENTITIES.values(), *(content for content, _ in BROKEN.values())]:
        with pytest.raises(MalformedDocument):
            look(open_bytes(content.encode()))


@pytest.mark.parametrize("look", [survey, recognise])
@pytest.mark.parametrize("root", ["r", "OrderViewRS"])
def test_a_look_keeps_the_bounds(open_bytes: OpenBytes, look: Callable[..., object], root: str) -> None:
    limits = Limits(max_depth=4, max_attributes=2)
    look(open_bytes(f"<{root}><a><b><c x='1' y='2'/></b></a></{root}>".encode()), limits)
    for beyond in ("<a><b><c><d/></c></b></a>", "<a x='1' y='2' z='3'/>"):
        with pytest.raises(UnsafeDocument):
            look(open_bytes(f"<{root}>{beyond}</{root}>".encode()), limits)


def test_messages_are_one_line_and_name_the_file(open_bytes: OpenBytes) -> None:
    with pytest.raises(MalformedDocument) as refused:
        survey(open_bytes(b"<r>\n<a>\n</r>", name="order.xml"))
    assert "order.xml" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (refused.value.line, refused.value.column) == (3, 3)


def test_the_digest_is_of_the_file_as_it_lies_there(open_bytes: OpenBytes) -> None:
    packed = gzip.compress(b"<r/>")
    assert open_bytes(packed).sha256() == hashlib.sha256(packed).hexdigest()
    assert open_bytes(packed).size_bytes == len(packed)
