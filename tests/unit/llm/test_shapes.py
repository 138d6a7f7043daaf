"""A subtree of a known shape says what it says when it is parsed and walked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree

from thresher.llm import shapes
from thresher.llm.evidence import Evidence, Leaf
from thresher.llm.masking import Masker
from thresher.llm.shapes import Reading, Shapes

NAMES = ["Pax", "Name", "GivenName", "Individual", "Contact", "IP", "a:Birthdate", "b:x"]
VALUES = [
    *("ADT", " 12 \n 13 ", "", " ", "\n", "x > y", 'say "a"', "a='b'", '="v"', "ann@example.com", "[EMAIL_1]"),
    *("+49 30 1234567", "203.0.113.9", "2026-01-31T12:00:00Z", "DE89 3704 0044 0532 0130 00", "é\u00a0\u2003ü"),
]
UNUSUAL = ["&amp;", "<![CDATA[a@b.cd]]>", "<!-- a@b.cd -->", "<?p a@b.cd?>", "&#13;", "\r\n"]
texts = st.sampled_from(VALUES) | st.text(
    st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="<&"), max_size=9
)
attribute_values = st.sampled_from([value for value in VALUES if '"' not in value] + ["a\tb", "a\nb>c", "x>y"])


@st.composite
def elements(draw: st.DrawFn, depth: int = 3, unusual: Sequence[str] = ()) -> str:
    """An element as text, with what people write around names and values."""
    name = draw(st.sampled_from(NAMES))
    attributes = {
        key: draw(attribute_values)
        for key in draw(
            st.lists(st.sampled_from(["GivenName", "Code", "a:Code", "email", "version"]), max_size=3, unique=True)
        )
    }
    quoted = draw(st.sampled_from([*['="{}"', '="{}" '] * 8, "='{}'", ' = "{}"']))
    written = "".join(
        f" {key}{quoted.format(value) if chr(39) not in value else f'={chr(34)}{value}{chr(34)}'}"
        for key, value in attributes.items()
    )
    inner = draw(st.lists(elements(depth - 1, unusual), max_size=4)) if depth else []
    pieces = draw(st.sampled_from([texts, *[st.sampled_from(["", "\n  "])] * 29])) if inner else texts
    if unusual:
        pieces = pieces | st.sampled_from(unusual)
    content = "".join(f"{child}{draw(pieces) if inner else ''}" for child in ["", *inner]) if inner else draw(pieces)
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def rooted(content: str) -> str:
    return f'<Root xmlns:a="urn:a:version" xmlns:b="urn:b">{content}</Root>'


def known(xml: str) -> Reading | None:
    return Shapes(at_first_sight=True).read(xml)


def assert_read_alike(reading: Reading, xml: str) -> None:
    root = etree.fromstring(xml)
    evidence, seen = reading.evidence(), Evidence.of(root)
    assert evidence.root_name == seen.root_name
    assert list(evidence.leaves) == list(seen.leaves)
    assert (evidence.is_empty, dict(evidence.first_values)) == (seen.is_empty, dict(seen.first_values))
    hidden = Masker().mask(root)
    pseudonyms, sent = reading.masked()
    assert (pseudonyms.count, pseudonyms._by_pseudonym) == (hidden.count, hidden._by_pseudonym)
    assert etree.tostring(etree.fromstring(sent), method="c14n2") == etree.tostring(root, method="c14n2")
    assert pseudonyms.count or sent == xml


@settings(max_examples=400, deadline=None)
@given(elements().map(rooted))
@example(rooted("<Pax>text<Name/></Pax><Pax><Name/>tail</Pax>"))
@example(rooted("<Name a:Code='x>y' Code=\"z\">ADT</Name>"))
@example(rooted('<Name Code = "x>y">ADT</Name>'))
@example(rooted('<Name Code="a&#10;b">ADT</Name>'))
@example("<E a='urn:thresher:value:0'><IP>urn:thresher:value:1</IP></E>")
@example('<E xmlns="urn:x" xml:lang="de"><IP>203.0.113.9</IP><Version>203.0.113.9</Version></E>')
def test_what_a_shape_tells_is_what_the_tree_tells(xml: str) -> None:
    if (reading := known(xml)) is not None:
        assert_read_alike(reading, xml)


@settings(max_examples=200, deadline=None)
@given(elements(unusual=UNUSUAL).map(rooted))
def test_unusual_markup_is_told_from_usual(xml: str) -> None:
    if (reading := known(xml)) is not None:
        assert_read_alike(reading, xml)


@settings(max_examples=200, deadline=None)
@given(elements().map(rooted), st.data())
def test_what_was_learned_of_one_subtree_holds_for_others_of_its_shape(xml: str, data: st.DataObject) -> None:
    """Each value is replaced by another one; where that makes another shape it is another matter."""
    all_shapes = Shapes(at_first_sight=True)
    first = all_shapes.read(xml)
    pieces = shapes._VALUE.split(xml)
    for number in range(1, len(pieces), 2):
        if "xmlns" in pieces[number - 1]:
            continue  # any name of a namespace would do, but not any text
        if pieces[number][0] == ">":
            pieces[number] = ">" + data.draw(texts)
        else:
            pieces[number] = '="' + data.draw(attribute_values)
    other = "".join(pieces)
    second = all_shapes.read(other)
    if second is not None:
        assert_read_alike(second, other)
    if first is not None:
        assert_read_alike(first, xml)


def test_subtrees_of_one_shape_are_parsed_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    real = shapes.parse_subtree
    monkeypatch.setattr(shapes, "parse_subtree", lambda text: (parsed.append(text), real(text))[1])
    all_shapes = Shapes()
    readings = [all_shapes.read(f'<P Id="P{number}">\n <N>name {number}</N>\n</P>') for number in range(50)]
    assert readings[0] is None  # it might have been the only one
    assert all(readings[1:])
    assert len(parsed) == 1
    last = readings[-1]
    assert last is not None
    assert list(last.evidence().leaves) == [
        Leaf("@Id", "@Id", "Id", "P49", is_attribute=True),
        Leaf("N", "N", "N", "name 49", is_attribute=False),
    ]


@pytest.mark.parametrize(
    "xml",
    [
        "<P>a &amp; b</P>",
        "<P><![CDATA[a]]></P>",
        "<P><!-- a --><N>b</N></P>",
        "<P><?a b?></P>",
        "<P>a<N>b</N>c</P>",
        "<P Id='a'>b</P>",
        "<P Id='urn:thresher:value:0'><N>b</N></P>",
        f"<P>{'a' * shapes.LONGEST}</P>",
    ],
)
def test_what_has_to_be_walked_is_left_to_the_walk(xml: str) -> None:
    assert known(xml) is None


def test_memory_is_bounded_whatever_the_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MOST_SHAPES", 10)
    monkeypatch.setattr(shapes, "MOST_CHARACTERS", 200)
    monkeypatch.setattr(shapes, "_MOST_SEEN", 10)
    for all_shapes in (Shapes(), Shapes(at_first_sight=True)):
        for number in range(100):
            xml = f"<P><N{number}>a</N{number}></P>"
            for _ in range(2):
                reading = all_shapes.read(xml)
            assert reading is not None
            assert_read_alike(reading, xml)
            assert len(all_shapes._known) <= 10
            assert len(all_shapes._seen) <= 10
            assert sum(map(len, all_shapes._known)) <= 200
