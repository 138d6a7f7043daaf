from __future__ import annotations

import copy
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from thresher.llm.evidence import Evidence, Leaf

NAMES = st.sampled_from(["Pax", "Name", "Price", "PaxRefID", "a.b"])
NAMESPACES = st.sampled_from(["", "{urn:one}", "{urn:two}"])
WORDS = st.text(st.sampled_from("ab1 \n\t\xa0éß<&"), max_size=6)


@dataclass(frozen=True)
class Text:
    """Text, a comment or a processing instruction between elements."""

    kind: str
    value: str


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> etree._Element:
    element = etree.Element(draw(NAMESPACES) + draw(NAMES))
    attributes = draw(st.dictionaries(st.tuples(NAMESPACES, NAMES), WORDS, max_size=2))
    for (namespace, name), value in attributes.items():
        element.set(namespace + name, value)
    element.text = draw(WORDS)
    if depth:
        for _ in range(draw(st.integers(0, 3))):
            child = draw(st.one_of(elements(depth - 1), comments()))
            child.tail = draw(st.one_of(st.just("\n  "), WORDS))
            element.append(child)
    return element


def comments() -> st.SearchStrategy[etree._Element]:
    return st.one_of(
        st.builds(lambda: etree.Comment("hidden")),
        st.builds(lambda: etree.ProcessingInstruction("hidden", "too")),
    )


def of(xml: str) -> Evidence:
    return Evidence.of(etree.fromstring(xml))


def seen(xml: str) -> list[tuple[str, str]]:
    return [(leaf.path, leaf.value) for leaf in of(xml).leaves]


def paths(evidence: Evidence, path: str) -> list[str]:
    return [leaf.path for leaf in evidence.at(path)]


def look_up(root: etree._Element, path: str) -> list[str]:
    """The values at a path by lxml's own XPath: an oracle that shares no code with ``Evidence``."""
    steps = []
    for step in path.split("/"):
        mark, name, index = re.fullmatch(r"(@?)([^\[\]@]+)(\[\d+\])?", step).groups()
        steps.append("." if step == "." else f"{mark}*[local-name()='{name}']{index or ''}")
    found = root.xpath("/".join(steps))
    return [" ".join((node if isinstance(node, str) else node.xpath("string()")).split()) for node in found]


def test_leaves_come_in_document_order_with_attributes_before_text_and_children() -> None:
    xml = """<O:Offer xmlns:O='urn:o' xmlns:x='urn:x' x:type=' t ' ID='1'>
      <Price Code='EUR'>12.50</Price><Pax/><Pax>A</Pax><Pax>B</Pax><Empty a=''> </Empty></O:Offer>"""
    assert seen(xml) == [
        ("@type", "t"),
        ("@ID", "1"),
        ("Price/@Code", "EUR"),
        ("Price", "12.50"),
        ("Pax[2]", "A"),
        ("Pax[3]", "B"),
    ]


def test_leaf_knows_its_name_and_kind() -> None:
    assert of("<r xmlns:p='urn:p'><p:City p:code='X'>Oslo</p:City></r>").leaves == [
        Leaf("City/@code", "City/@code", "code", "X", is_attribute=True),
        Leaf("City", "City", "City", "Oslo", is_attribute=False),
    ]


def test_root_of_text_alone_has_the_path_of_a_dot() -> None:
    assert seen("<Pax>  Anna \n\t Berg </Pax>") == [(".", "Anna Berg")]
    assert of("<p:Pax xmlns:p='urn:p'/>").root_name == "Pax"


def test_cdata_speaks_and_comments_and_instructions_do_not() -> None:
    assert seen("<r><a>1<!--no-->2<?no no?><![CDATA[<3>]]></a></r>") == [("a", "12<3>")]


def test_mixed_content_is_one_leaf_with_all_its_text_beside_the_leaves_inside() -> None:
    assert seen("<r><p>Dear <b>Anna</b>,<!--no--> hi <i/></p></r>") == [("p", "Dear Anna, hi"), ("p/b", "Anna")]


def test_names_count_by_local_name_whatever_the_namespace() -> None:
    assert seen("<r xmlns:a='urn:a' xmlns:b='urn:b'><a:x>1</a:x><b:x>2</b:x></r>") == [("x[1]", "1"), ("x[2]", "2")]


def test_piece_of_a_split_subtree_tells_where_it_stands_in_the_source() -> None:
    piece = "<country car='N'><province id='p'><city><name>Oslo</name></city><city><name>Moss</name></city></province>"
    shells = {".": {"province": 2}, "province[1]": {"city": 11}}
    evidence = Evidence.of(etree.fromstring(piece + "</country>"), shells)
    assert [(leaf.path, leaf.source_path) for leaf in evidence.leaves] == [
        ("@car", "@car"),
        ("province[1]/@id", "province[3]/@id"),
        ("province[1]/city[1]/name", "province[3]/city[12]/name"),
        ("province[1]/city[2]/name", "province[3]/city[13]/name"),
    ]


def test_only_child_of_a_shell_carries_an_index_in_both_paths() -> None:
    evidence = Evidence.of(etree.fromstring("<r><a>1</a></r>"), {".": {}})
    assert [(leaf.path, leaf.source_path) for leaf in evidence.leaves] == [("a[1]", "a[1]")]


@pytest.mark.parametrize(
    "path",
    [
        "Service[2]/Ref/@Code",
        " ./Service[2]/Ref/@Code\n",
        "/Service[2]/Ref/@Code",
        "//Service[2]/Ref/@Code",
        "Offer/Service[2]/Ref/@Code",
        "/Offer[1]/Service[2]/Ref/@Code",
        "/p:Offer/p:Service[2]/q:Ref/@q:Code",
        "{urn:a/b}Service[2]/{urn:a/b}Ref/@{urn:a/b}Code",
        "Service[2]/Ref[1]/@Code",
        "//Ref/@Code",
    ],
)
def test_path_is_found_as_models_write_it(path: str) -> None:
    evidence = of("<Offer><Service/><Service><Ref Code='7'>x</Ref></Service></Offer>")
    assert paths(evidence, path) == ["Service[2]/Ref/@Code"]


def test_path_without_index_means_all_of_several() -> None:
    evidence = of("<o><s><r>1</r><r>2</r></s><s><r>3</r></s></o>")
    assert paths(evidence, "s/r") == ["s[1]/r[1]", "s[1]/r[2]", "s[2]/r"]
    assert paths(evidence, "s/r[2]") == ["s[1]/r[2]"]
    assert paths(evidence, "s[2]/r/text()") == ["s[2]/r"]
    assert paths(evidence, "//r[1]") == ["s[1]/r[1]", "s[2]/r"]


def test_root_is_named_by_dot_slash_or_name() -> None:
    evidence = of("<Pax>Anna</Pax>")
    assert [paths(evidence, path) for path in (".", "./", "Pax", "/Pax", "/Pax/text()", "./text()")] == [["."]] * 6


def test_child_named_like_the_root_is_meant_by_a_relative_path_only() -> None:
    evidence = of("<a>x<a>y</a></a>")
    assert paths(evidence, "a") == ["a"]
    assert paths(evidence, "/a/a") == ["a"]
    assert paths(evidence, "/a") == ["."]


@pytest.mark.parametrize(
    "path",
    [
        "",
        " ",
        "/",
        "text()",
        "Nope",
        "Service[9]",
        "Service[0]",
        "Service[1][1]",
        "Service[@x='/']",
        "Only",
        "@",
        "[1]",
        "a" * 100_000,
        "/" * 100_000,
        "{" * 50_000,
        "x:" * 50_000,
        "Service[" + "9" * 5_000 + "]",
        "\x00\ud800",
    ],
)
def test_path_of_nothing_finds_nothing(path: str) -> None:
    assert list(of("<o><Service>1</Service><Only code='x'/></o>").at(path)) == []


@given(elements())
def test_every_leaf_is_found_at_its_own_path(root: etree._Element) -> None:
    evidence = Evidence.of(root)
    for leaf in evidence.leaves:
        assert leaf in evidence.at(leaf.path)
        assert leaf in evidence.at(f" /{evidence.root_name}/{leaf.path.removeprefix('.')}/text() ")


@given(elements())
def test_every_value_stands_where_lxml_finds_it(root: etree._Element) -> None:
    for leaf in Evidence.of(root).leaves:
        assert leaf.value
        assert leaf.value in look_up(root, leaf.path)
        assert leaf.path == leaf.source_path


@given(elements())
def test_every_text_and_attribute_of_the_tree_is_in_a_leaf(root: etree._Element) -> None:
    values = [leaf.value for leaf in Evidence.of(root).leaves]
    for text in [*root.xpath("//text()"), *root.xpath("//@*")]:
        assert not text.split() or any(" ".join(text.split()) in value for value in values)


@given(elements(), st.data())
def test_source_paths_of_a_piece_lead_into_the_whole_document(root: etree._Element, data: st.DataObject) -> None:
    piece, shells = cut(root, data)
    for leaf in Evidence.of(piece, shells).leaves:
        assert leaf.value in look_up(root, leaf.source_path)


def without_tail(element: etree._Element) -> etree._Element:
    """A copy; not written out and read again, as lxml then may declare a prefix twice."""
    copied = copy.deepcopy(element)
    copied.tail = None
    return copied


def cut(root: etree._Element, data: st.DataObject) -> tuple[etree._Element, dict[str, dict[str, int]]]:
    """A piece of the root: some consecutive children of the root or of one of its children, wrapped in shells."""
    shells: dict[str, dict[str, int]] = {}
    piece = shell = etree.Element(root.tag, root.attrib)
    source, path = root, "."
    while True:
        children = [child for child in source if isinstance(child.tag, str)]
        start = data.draw(st.integers(0, max(0, len(children) - 1)))
        shells[path] = {}
        for child in children[:start]:
            name = etree.QName(child).localname
            shells[path][name] = shells[path].get(name, 0) + 1
        if not children or data.draw(st.booleans()):
            shell.extend([without_tail(child) for child in children[start:]])
            return piece, shells
        source = children[start]
        path = f"{'' if path == '.' else path + '/'}{etree.QName(source).localname}[1]"
        shell = etree.SubElement(shell, source.tag, source.attrib)


def test_an_element_around_one_text_means_that_text() -> None:
    root = etree.fromstring(
        "<C><Email><EmailText>a@b</EmailText><Kind code='x'/></Email><Two><A>1</A><B>2</B></Two></C>"
    )
    evidence = Evidence.of(root)
    assert [leaf.path for leaf in evidence.at("Email")] == ["Email/EmailText"]
    assert [leaf.path for leaf in evidence.at("C/Email")] == ["Email/EmailText"]
    assert not evidence.at("Two")
    assert not evidence.at(".")
