"""Elements that are too large: split into pieces that hold every byte once, never dropped."""

from __future__ import annotations

import base64
import itertools
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from thresher.core.errors import UnsafeDocument
from thresher.workflows.discovery.subtrees import Limits, Subtree, source

SplitBytes = Callable[..., list[Subtree]]

SMALL = Limits(max_subtree_bytes=1_024)


@st.composite
def contents(draw: st.DrawFn, depth: int = 3) -> str:
    parts = []
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.integers(0, 9))
        if kind < 4 and depth:
            name = draw(st.sampled_from(["a", "b", "q:c"]))
            attribute = draw(st.sampled_from(["", ' k="v"', f' long="{"y" * 300}"', ' xmlns:z="urn:z"']))
            parts.append(f"<{name}{attribute}>{draw(contents(depth=depth - 1))}</{name}>")
        elif kind == 4:
            parts.append(f"<e k='{draw(st.integers(0, 99))}'/>")
        elif kind == 5:
            parts.append(f"<![CDATA[{draw(st.sampled_from(['', '<x>&', ']]', 'word ' * 400, 'é' * 900]))}]]>")
        elif kind == 6:
            parts.append(draw(st.sampled_from(["<!-- c -->", "<?pi x?>", f"<!--{'long comment ' * 120}-->"])))
        else:
            parts.append(
                draw(st.sampled_from(["x", "\n  ", "words " * 300, "é" * 1_200, "a&amp;" * 300, "\r\n" * 700]))
            )
    return "".join(parts)


def stream(element: etree._Element) -> str:
    """All text, comments, instructions and empty markers of what an element holds, in document order."""
    out = [element.text or ""]
    for child in element:
        if isinstance(child, etree._Comment):
            out.append(child.text or "")
        elif isinstance(child, etree._ProcessingInstruction):
            out.append(f"<?{child.target} {child.text}?>")
        else:
            out.append(stream(child))
        out.append(child.tail or "")
    return "".join(out)


@settings(max_examples=150, deadline=None)
@given(inside=contents(), chunk=st.sampled_from([50, 999, 100_000]))
def test_pieces_tile_the_element_and_parse_alone(inside: str, chunk: int, split_bytes: SplitBytes) -> None:
    content = f"<r xmlns:q='urn:q'><t id='1'>{inside}</t></r>".encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "CHUNK_BYTES", chunk)
        found = split_bytes(content, "/r/t", limits=SMALL)
    target = etree.fromstring(content)[0]
    pieces = [etree.fromstring(each.xml.encode()) for each in found]
    assert "".join(map(stream, pieces)) == stream(target)
    assert [each.piece for each in found] == list(range(len(found)))
    assert [each.pieces_follow for each in found] == [True] * (len(found) - 1) + [False]
    ranges = [each.byte_range for each in found]
    start = content.index(b"<t")
    assert ranges[0][0] == start
    assert ranges[-1][1] == content.index(b"</r>")
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ranges))
    assert {each.section_path for each in found} == {"/r/t[1]"}
    assert len({piece.get("id") for piece in pieces}) == 1
    if len(found) > 1:
        assert max(each.size_bytes for each in found) <= SMALL.max_subtree_bytes + 700


def assert_places_agree(piece: etree._Element, subtree: Subtree, target: etree._Element) -> None:
    """Every child of a shell, moved by what is missing before it, is the element of that number in the document."""
    places = [(piece, ".", target)]
    while places:
        here, path, real = places.pop()
        if path not in subtree.shells:
            assert [each.get("id") for each in here.iter()] == [each.get("id") for each in real.iter()]
            continue
        counts: dict[str, int] = {}
        for child in here:
            counts[child.tag] = counts.get(child.tag, 0) + 1
            index = counts[child.tag] + subtree.shells[path].get(child.tag, 0)
            twin = [each for each in real if each.tag == child.tag][index - 1]
            assert child.get("id") == twin.get("id")
            seen = f"{child.tag}[{counts[child.tag]}]"
            places.append((child, seen if path == "." else f"{path}/{seen}", twin))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_shells_tell_where_each_element_of_a_piece_stands_in_the_document(seed: int, split_bytes: SplitBytes) -> None:
    chance, number = random.Random(seed), iter(range(1, 1_000_000))

    def element(depth: int) -> str:
        name = chance.choice(["a", "b", "c"])
        inside = (
            "".join(element(depth - 1) for _ in range(chance.randint(0, 6))) if depth else "t" * chance.randint(0, 200)
        )
        return f'<{name} id="{next(number)}">{inside}</{name}>'

    content = f'<r><t id="0">{"".join(element(4) for _ in range(6))}</t></r>'
    found = split_bytes(content, "t", limits=SMALL)
    target = etree.fromstring(content)[0]
    for subtree in found:
        assert subtree.size_bytes <= SMALL.max_subtree_bytes
        if not subtree.is_whole:
            assert "." in subtree.shells
            assert_places_agree(etree.fromstring(subtree.xml), subtree, target)


def test_the_example_of_the_contract(split_bytes: SplitBytes) -> None:
    cities = "".join(f"<city><name>{'n' * 40}{n}</name></city>" for n in range(30))
    content = f"<w><country><province/><province/><province k='3'>{cities}</province><province/></country></w>"
    found = split_bytes(content, "country", limits=Limits(max_subtree_bytes=1_000))
    assert found[0].xml == "<country><province/><province/></country>"
    assert found[0].shells == {".": {}}
    assert found[1].shells == {".": {"province": 2}, "province[1]": {}}
    before = found[1].xml.count("<city>")
    assert found[2].shells == {".": {"province": 2}, "province[1]": {"city": before}}
    assert found[2].xml.startswith("<country><province k='3'><city>")


def test_a_path_that_matches_the_root_is_split_while_it_streams(split_bytes: SplitBytes) -> None:
    found = split_bytes("<r>" + "<i>text</i>" * 20_000 + "</r>", "/r", limits=SMALL)
    assert sum(each.xml.count("<i>") for each in found) == 20_000
    assert max(each.size_bytes for each in found) <= 1_024


def test_targets_within_a_split_target_are_whole(split_bytes: SplitBytes) -> None:
    found = split_bytes("<r><o>" + "<i>text</i>" * 1_000 + "</o></r>", "/r", "i", limits=SMALL)
    assert sum(each.is_whole and each.node_type == "i" for each in found) == 1_000
    assert sum(not each.is_whole and each.node_type == "r" for each in found) > 10


def test_a_long_text_is_cut_at_white_space(split_bytes: SplitBytes) -> None:
    words = " ".join(f"word{n}" for n in range(1_000))
    found = split_bytes(f"<r><t>{words}</t></r>", "t", limits=SMALL)
    texts = [etree.fromstring(each.xml).text for each in found]
    assert "".join(texts) == words
    assert all(re.fullmatch(r"(word\d+ )*(word\d+ ?)?", text) for text in texts)


def test_long_attributes_stand_whole_in_the_first_piece_and_are_left_out_of_later_shells(
    split_bytes: SplitBytes,
) -> None:
    content = f"<r><t short='1' long='{'v ' * 400}'>{'<i>x</i>' * 500}</t></r>"
    found = split_bytes(content, "t", limits=SMALL)
    assert "v v v" in found[0].xml
    assert all("v v v" not in each.xml and "short='1'" in each.xml for each in found[1:])


def test_start_tags_too_large_to_repeat_are_refused(split_bytes: SplitBytes) -> None:
    declared = "".join(f" xmlns:n{n}='urn:{'n' * 200}{n}'" for n in range(400))
    with pytest.raises(UnsafeDocument, match="start tags around its parts"):
        split_bytes(f"<r><t{declared}>{'<i>x</i>' * 500}</t></r>", "t", limits=SMALL)


NOISE = base64.b64encode(random.Random(1).randbytes(150_000))


def lines(text: bytes, length: int, end: bytes = b"\n") -> bytes:
    return end.join(text[at : at + length] for at in range(0, len(text), length))


@pytest.mark.parametrize("chunk", [100, 4_096, 131_072])
@pytest.mark.parametrize("written", [NOISE, lines(NOISE, 76), lines(NOISE, 64, b"\r\n    "), NOISE[:4_000]])
def test_base64_becomes_a_stub_wherever_it_stands(written: bytes, chunk: int, split_bytes: SplitBytes) -> None:
    content = b"<r><t><n>before</n><d>x, " + written + b"</d><c><![CDATA[" + written + b"]]></c><n>after</n></t></r>"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "CHUNK_BYTES", chunk)
        (found,) = split_bytes(content, "t")
    assert found.is_whole
    text = f"[base64 omitted: {len(written)} characters, sha256 "
    assert found.xml.count(text) == 2
    assert found.xml.startswith("<t><n>before</n><d>x, [base64")
    assert found.xml.endswith("]]></c><n>after</n></t>")
    assert content[slice(*found.byte_range)] == content[3:-4]


def test_base64_in_an_attribute_becomes_a_stub(split_bytes: SplitBytes) -> None:
    (found,) = split_bytes(b"<r><t k='data:image/png;base64," + NOISE[:8_000] + b"' l='x'/></r>", "t")
    assert found.xml.startswith("<t k='data:image/png;base64,[base64 omitted: 8000 characters")
    assert found.xml.endswith("]' l='x'/>")


@pytest.mark.parametrize(
    "text",
    ["a" * 5_000, "PAX1 SEG2 " * 400, "0123456789abcdef" * 300, "ACGT" * 1_000, "Word and Word " * 300, "A1b2 " * 900],
)
def test_what_only_looks_like_base64_stays_as_it_is(text: str, split_bytes: SplitBytes) -> None:
    (found,) = split_bytes(f"<r><t>{text}</t></r>", "t")
    assert found.xml == f"<t>{text}</t>"


@pytest.mark.parametrize("codec", ["utf-16", "iso-8859-1"])
def test_pieces_know_their_place_in_other_encodings(codec: str, split_bytes: SplitBytes) -> None:
    text = f"<?xml version='1.0' encoding='{codec}'?><r>é<t>{'<i>é</i>' * 500}</t></r>"
    content = text.encode(codec)
    found = split_bytes(content, "t", limits=SMALL)
    plain = codec.replace("utf-16", "utf-16-le")
    written = [content[slice(*each.byte_range)].decode(plain) for each in found]
    assert "".join(written) == text[text.index("<t>") : -len("</r>")]
