"""The splitter: what it yields is the element, self-contained, at the place it names."""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree

from thresher.core.errors import MalformedDocument, ThresherError
from thresher.workflows.discovery.subtrees import Limits, Subtree, source

SplitBytes = Callable[..., list[Subtree]]

NAMES = ["a", "b", "Pax", "PaxID", "IATA_Pax", "p:a", "q:Pax", "IATA_Ä"]
TEXTS = st.sampled_from(
    ["", "x", " ", "a &amp; b", "é 中 𝄞", "]] &gt;", "&#13;", "\n  ", "x" * 40, "</a >".replace("<", "&lt;")]
)
ODD = st.sampled_from(
    ["<!-- <a> </Pax> -->", "<![CDATA[<a></Pax> & ]]>", "<?pi </a> <Pax>?>", "<![CDATA[]]>", "<!---->", "<?x?>"]
)
DECLARED = st.sampled_from(
    ["", ' xmlns="urn:d"', ' xmlns=""', ' xmlns:p="urn:p2"', ' xmlns:q="urn:a&amp;b" q:n="1"', " k='v>\"'", ' k="a/>b"']
)


@st.composite
def elements(draw: st.DrawFn, depth: int = 4) -> str:
    name, declared = draw(st.sampled_from(NAMES)), draw(DECLARED)
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(
            st.sampled_from([f"<{name}{declared}/>", f"<{name}{declared} />", f"<{name}{declared}></{name}\n>"])
        )
    inside = draw(st.lists(st.one_of(elements(depth=depth - 1), TEXTS, ODD), max_size=5))
    return f"<{name}{declared}>{''.join(inside)}</{name}>"


@st.composite
def documents(draw: st.DrawFn) -> str:
    before = draw(st.sampled_from(["", "<?xml version='1.0'?>\n", "<!-- c -->", "<!DOCTYPE r>\n"]))
    inside = "".join(draw(st.lists(elements(), min_size=1, max_size=6)))
    return f"{before}<r xmlns:p='urn:p' xmlns:q='urn:q'>{inside}</r>\n"


PATHS = st.lists(
    st.sampled_from(
        [
            "a",
            "Pax",
            "//b",
            "/r/*",
            "/r/a/b",
            "r//Pax",
            "*/Pax",
            "a[2]",
            "{urn:q}Pax",
            "//*",
            "/r",
            "p:a[@k]".replace("[@k]", ""),
        ]
    ),
    min_size=1,
    max_size=3,
    unique=True,
)


def matches(root: etree._Element, path: str) -> list[etree._Element]:
    """What a path means, said in XPath by local names without IATA_."""

    def test(step: str) -> str:
        name, bracket, position = step.partition("[")
        uri, _, local = name.rpartition("}")
        local = local.rpartition(":")[2].removeprefix("IATA_")
        conditions = "" if local == "*" else f"[local-name()='{local}' or local-name()='IATA_{local}']"
        conditions += f"[namespace-uri()='{uri[1:]}']" if uri else ""
        if bracket:
            index = int(position[:-1])
            conditions += f"[count(preceding-sibling::*[local-name()=local-name(current())])={index - 1}]"
        return "*" + conditions

    anchored = path if path.startswith("/") else "//" + path
    xpath = "".join(f"/{test(step)}" if step else "/" for step in anchored.split("/")[1:])
    found = root.getroottree().xpath(xpath.replace("local-name(current())", "'a'"))
    return [element for element in found if isinstance(element.tag, str)]


@settings(max_examples=150, deadline=None)
@example(document="<r><Pax><Pax><a/><Pax></Pax\n></Pax>é<a/><a><Pax></Pax\n></a></Pax></r>", paths=["Pax"], chunk=7)
@example(document="<r><Pax><a></a><Pax></Pax\n><Pax></Pax><Pax><Pax></Pax\n></Pax></Pax></r>", paths=["Pax"], chunk=7)
@given(document=documents(), paths=PATHS, chunk=st.sampled_from([1, 7, 64, 100_000]))
def test_every_match_is_yielded_once_whole_and_equal_to_the_element_in_the_document(
    document: str, paths: list[str], chunk: int, split_bytes: SplitBytes, reading: Any
) -> None:
    content = document.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "CHUNK_BYTES", chunk)
        found = split_bytes(content, *paths)
    root = etree.fromstring(content)
    wanted = {element for path in paths for element in matches(root, path)}
    order = [element for element in root.iter() if element in wanted]
    by_target = sorted(found, key=lambda subtree: subtree.target)
    assert [reading.element_at(root, subtree.section_path) for subtree in by_target] == order
    assert [subtree.target for subtree in by_target] == list(range(len(order)))
    for subtree in found:
        alone = etree.fromstring(subtree.xml.encode())
        assert reading.shape(alone) == reading.shape(reading.element_at(root, subtree.section_path))
        assert subtree.is_whole
        start, end = subtree.byte_range
        written = content[start:end].decode()
        name = written[1:].replace("/", " ").replace(">", " ").split()[0]
        assert written.startswith("<")
        assert subtree.xml.startswith(f"<{name}")
        assert subtree.xml.endswith(written.removeprefix(f"<{name}"))


def test_subtrees_come_in_the_order_of_their_end_tags_and_are_numbered_by_their_start_tags(
    split_bytes: SplitBytes,
) -> None:
    found = split_bytes("<r><s><s/><s/></s><s/></r>", "s")
    assert [(each.section_path, each.target) for each in found] == [
        ("/r/s[1]/s[1]", 1),
        ("/r/s[1]/s[2]", 2),
        ("/r/s[1]", 0),
        ("/r/s[2]", 3),
    ]


def test_an_outer_target_keeps_its_inner_ones_whole(split_bytes: SplitBytes) -> None:
    found = split_bytes("<r><o>1<i>2</i>3</o></r>", "o", "o/i")
    assert [each.xml for each in found] == ["<i>2</i>", "<o>1<i>2</i>3</o>"]


def test_an_element_matched_by_two_paths_counts_for_the_first(split_bytes: SplitBytes) -> None:
    found = split_bytes("<r><a/><b/><a/></r>", "/r/a", "/r/*")
    assert [(each.path.text, each.ordinal, each.node_type) for each in found] == [
        ("/r/a", 1, "a"),
        ("/r/*", 1, "b"),
        ("/r/a", 2, "a"),
    ]


def test_counters_are_true_at_item_seventy_thousand(split_bytes: SplitBytes) -> None:
    found = split_bytes("<r><l>" + "<i><n>1</n></i>" * 70_000 + "</l></r>", "l/i")
    assert len(found) == 70_000
    assert found[-1].section_path == "/r/l[1]/i[70000]"
    assert found[-1].ordinal == 70_000


def test_only_namespaces_that_a_subtree_can_need_travel_with_it(split_bytes: SplitBytes) -> None:
    (found,) = split_bytes(
        '<r xmlns="urn:d" xmlns:p="urn:p" xmlns:q="urn:q" xmlns:x="urn:x"><a p:k="x:Type"/></r>', "a"
    )
    assert found.xml == '<a xmlns="urn:d" xmlns:p="urn:p" xmlns:x="urn:x" p:k="x:Type"/>'


def test_a_default_namespace_that_is_taken_back_does_not_travel(split_bytes: SplitBytes) -> None:
    (found,) = split_bytes('<r xmlns="urn:d"><m xmlns=""><a/></m></r>', "a")
    assert found.xml == "<a/>"


TEXT = "<r><a k='é'>Ärger &amp; Çâ</a>\n<b/><a>ß</a></r>"


@pytest.mark.parametrize("codec", ["iso-8859-1", "windows-1252", "iso-8859-15", "koi8-r", "cp850", "utf-8", "us-ascii"])
def test_single_byte_encodings_give_the_same_text_and_exact_byte_ranges(codec: str, split_bytes: SplitBytes) -> None:
    text = {"koi8-r": "<r><a>Мир</a>\n<a>и</a></r>", "us-ascii": "<r><a>x</a><a/></r>"}.get(codec, TEXT)
    content = f"<?xml version='1.0' encoding='{codec}'?>{text}".encode(codec)
    found = split_bytes(content, "a")
    assert len(found) == 2
    for each in found:
        assert content[slice(*each.byte_range)].decode(codec) == each.xml


@pytest.mark.parametrize(("codec", "mark"), [("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", codecs.BOM_UTF16_BE)])
@pytest.mark.parametrize("order", ["marked", "plain"])
def test_utf_16_gives_exact_byte_ranges(codec: str, mark: bytes, order: str, split_bytes: SplitBytes) -> None:
    content = "<?xml version='1.0' encoding='UTF-16'?><r>𝄞<a>𝄞ä</a>中<a/></r>".encode(codec)
    content = mark + content if order == "marked" else content
    found = split_bytes(content, "a")
    assert [content[slice(*each.byte_range)].decode(codec) for each in found] == ["<a>𝄞ä</a>", "<a/>"]
    assert [each.xml for each in found] == ["<a>𝄞ä</a>", "<a/>"]


@pytest.mark.parametrize("codec", ["shift_jis", "euc-jp", "gb18030", "big5", "euc-kr", "iso-2022-jp"])
def test_multi_byte_encodings_are_read_without_byte_ranges(codec: str, split_bytes: SplitBytes) -> None:
    text = "가나" if codec == "euc-kr" else "中文"
    (found,) = split_bytes(f"<?xml version='1.0' encoding='{codec}'?><r><a>{text}</a></r>".encode(codec), "a")
    assert found.xml == f"<a>{text}</a>"
    assert found.byte_range is None


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE])
def test_a_byte_order_mark_is_no_content(mark: bytes, split_bytes: SplitBytes) -> None:
    codec = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le"}.get(mark, "utf-32-be")
    content = mark + "<r><a>ä</a></r>".encode(codec)
    (found,) = split_bytes(content, "a")
    assert found.xml == "<a>ä</a>"
    if codec == "utf-8":
        assert content[slice(*found.byte_range)] == "<a>ä</a>".encode()


def test_gzip_gives_the_same_subtrees_with_places_in_the_inflated_document(split_bytes: SplitBytes) -> None:
    content = b"<r><a>1</a><a>2</a></r>"
    assert split_bytes(gzip.compress(content), "a") == split_bytes(content, "a")
    members = gzip.compress(content[:10]) + gzip.compress(content[10:]) + b"\0" * 100
    assert split_bytes(members, "a") == split_bytes(content, "a")


def test_a_path_that_matches_nothing_yields_nothing(split_bytes: SplitBytes) -> None:
    assert split_bytes("<r><a/></r>", "b", "/a") == []


@settings(max_examples=150, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        documents()
        .flatmap(lambda d: st.tuples(st.just(d.encode()), st.integers(0, 300), st.binary(max_size=3)))
        .map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]),
    )
)
def test_whatever_lxml_refuses_is_refused_and_nothing_else_fails(content: bytes, split_bytes: SplitBytes) -> None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        etree.fromstring(content, parser)
        is_well_formed = True
    except etree.XMLSyntaxError:
        is_well_formed = False
    try:
        split_bytes(content, "//*", limits=Limits())
        accepted = True
    except ThresherError:
        accepted = False
    if accepted:
        assert is_well_formed, content


@pytest.mark.parametrize("version", ["", "x", "1", "1.0a", " 1.0", "2.0"])
def test_a_version_that_lxml_refuses_is_refused(version: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(MalformedDocument):
        split_bytes(f"<?xml version='{version}'?><r/>".encode(), "//*", limits=Limits())
