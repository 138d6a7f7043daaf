"""Targets that are read past in one step are the same as those read element by element."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from thresher.core.errors import MalformedDocument, UnsafeDocument
from thresher.workflows.discovery.subtrees import Limits, Subtree, source
from thresher.workflows.discovery.subtrees.parsing import GuardedParser
from thresher.workflows.discovery.subtrees.skipping import Skipper

SplitBytes = Callable[..., list[Subtree]]

WRITTEN = ["Pax", "x:Pax", "IATA_Pax", "x:IATA_Pax"]
PLAIN = "<Pax k='1'><PaxID>1</PaxID><Name>Ann</Name></Pax>"
ODD = [
    "<Pax/>",
    "<Pax />",
    "<Pax></Pax >",
    "<Pax><Pax>inner</Pax></Pax>",
    "<Pax><Pax/>x</Pax>",
    "<Pax><x:Pax/></Pax>",
    "<Pax><IATA_Pax>y</IATA_Pax></Pax>",
    "<IATA_Pax>z</IATA_Pax>",
    "<x:Pax>z</x:Pax>",
    "<Pax><!-- </Pax> <Pax> --></Pax>",
    "<Pax><![CDATA[</Pax>]]></Pax>",
    "<Pax><?x </Pax>?></Pax>",
    "<Pax k='/>'>a</Pax>",
    "<Pax k='>'/>",
    "<Pax k='Pax '>a</Pax>",
    "<Pax k='a>b' l='Pax/'>Pax and Pax/ in text, Pax&gt;</Pax>",
    "<Pax><Order/>Order here</Pax>",
    "<Pax><Orders><x:Order k='1'>y</x:Order></Orders></Pax>",
    "<Pax xmlns='urn:own'><Pax/></Pax>",
    "<Pax xmlns:x='urn:own'><x:y/></Pax>",
    "<Pax><y xmlns='urn:z'/></Pax>",
    "<Pax><L><Pax>deep</Pax></L></Pax>",
    "<L><Pax>in a list</Pax><Pax>again</Pax></L>",
    "<!-- <Pax>no</Pax> -->",
    "<PaxID>no</PaxID>",
    "text &lt;Pax&gt;",
    "<Pax\n>x</Pax\n>",
    f"<Pax>{'long ' * 300}</Pax>",
]


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.one_of(st.just(PLAIN), st.just(f" {PLAIN}\n"), st.sampled_from(ODD)), min_size=3, max_size=30),
    path=st.sampled_from(
        [
            "L/Pax",
            "/r/L/Pax",
            "//Pax",
            "IATA_Pax",
            "{urn:x}Pax",
            "Pax[2]",
            "/r/*/*",
            "L/*",
            "L/x:PaxID",
            "Pax[@k='1']",
            "//Pax|//Order|//Orders",
            "/r/M/N",
            "//N",
            "//N/*",
            "L//Name",
            "Pax/*[2]",
            "/r/L[2]/Pax",
            "L/x:PaxID|/r/M/*",
        ]
    ),
    chunk=st.sampled_from([40, 333, 100_000]),
    written=st.sampled_from(WRITTEN),
)
def test_reading_past_targets_changes_nothing(
    parts: list[str], path: str, chunk: int, written: str, split_bytes: SplitBytes
) -> None:
    plain = PLAIN.replace("Pax ", f"{written} ").replace("/Pax>", f"/{written}>")
    inside = "".join(parts).replace(PLAIN, plain)
    content = f"<r xmlns:x='urn:x'><L>{inside}</L><L>{PLAIN * 3}</L><M>{plain * 12}<N>n</N>{inside}<N>n</N></M></r>"
    small = Limits(max_subtree_bytes=1_024)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "CHUNK_BYTES", chunk)
        paths = path.split("|")
        quick = split_bytes(content, *paths, limits=small)
        patch.setattr(Skipper, "next_start", lambda _self, window, _at: (-1, window.end, b""))
        assert quick == split_bytes(content, *paths, limits=small)


def test_plain_siblings_are_read_past(split_bytes: SplitBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    siblings = Skipper.siblings

    def counted(*arguments: object) -> list[tuple[int, int]]:
        places = siblings(*arguments)  # type: ignore[arg-type]  # handed on as it came
        taken.append(len(places))
        return places

    monkeypatch.setattr(Skipper, "siblings", counted)
    assert len(split_bytes(f"<r><L>{PLAIN * 5_000}</L></r>", "L/Pax")) == 5_000
    assert sum(taken) > 4_500


RECORD = f"<Record k='1'>{'<Field>some value</Field>' * 20}</Record>"


@pytest.mark.parametrize("path", ["/r/M/Pax", "M/Pax", "M/*", "//Pax"])
def test_repeated_elements_that_no_path_matches_are_left_out_whole(
    path: str, split_bytes: SplitBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    feed = GuardedParser.feed

    def counted(self: GuardedParser, data: bytes) -> None:
        told.append(len(data))
        feed(self, data)

    monkeypatch.setattr(GuardedParser, "feed", counted)
    content = f"<r><L><Inner>{RECORD * 2_000}</Inner></L><M>{PLAIN}</M></r>"
    assert [each.section_path for each in split_bytes(content, path)] == ["/r/M[1]/Pax[1]"]
    assert sum(told) < len(content) / 5  # what is read until the name is known


def test_what_is_left_out_counts_among_its_siblings(split_bytes: SplitBytes) -> None:
    content = f"<r><L>{RECORD * 700}<Pax/>{RECORD * 300}<Pax/><Record><Pax/></Record></L></r>"
    found = [each.section_path for each in split_bytes(content, "//Pax", "Record[@k='2']")]
    assert found == ["/r/L[1]/Pax[1]", "/r/L[1]/Pax[2]", "/r/L[1]/Record[1001]/Pax[1]"]


@pytest.mark.parametrize("bad", ["<Record><a></Record>", "<Record>&no;</Record>", "<Record><p:a/></Record>", "</L>"])
def test_what_is_left_out_is_checked_all_the_same(bad: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(MalformedDocument) as refused:
        split_bytes(f"<r><L>\n{RECORD * 50}\n{RECORD * 50}\n{bad}{RECORD * 50}</L></r>", "/r/M/Pax")
    assert refused.value.line == 4


@pytest.mark.parametrize(
    "bad",
    [
        "<Record>" + "<a>" * 256 + "</a>" * 256 + "</Record>",
        "<Record><x " + " ".join(f"a{n}='1'" for n in range(1_100)) + "/></Record>",
        "<Record><a xmlns='not a uri'/></Record>",
    ],
)
def test_bounds_hold_for_what_is_left_out(bad: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(UnsafeDocument):
        split_bytes(f"<r><L>{RECORD * 50}{bad}{RECORD * 50}</L></r>", "/r/M/Pax")


@pytest.mark.parametrize("path", ["/r/M/Pax", "L/Record"])
def test_names_without_end_are_refused_also_where_most_elements_are_read_past(
    path: str, split_bytes: SplitBytes
) -> None:
    new = (
        f"<Record>{''.join(f'<n{record}-{n}>x</n{record}-{n}>' for n in range(50))}</Record>" for record in range(900)
    )
    with pytest.raises(UnsafeDocument, match="different names"):
        split_bytes(
            f"<r><L>{RECORD * 100}{''.join(f'<Record>{fields}</Record>' for fields in new)}</L></r>",
            path,
            limits=Limits(max_names=2_000),
        )


def test_an_empty_element_does_not_close_the_element_of_its_name_around(split_bytes: SplitBytes) -> None:
    """The end tag behind it is that of its parent, even where a ``>`` within it hides that it is empty."""
    content = f"<r><Pax>{PLAIN * 20}<Pax k='>'/></Pax><L>{PLAIN}</L></r>"
    found = [each.section_path for each in split_bytes(content, "/r/Pax/Pax", "/r/L/Pax")]
    assert found == [*(f"/r/Pax[1]/Pax[{n}]" for n in range(1, 22)), "/r/L[1]/Pax[1]"]


@pytest.mark.parametrize("bad", ["<Pax><a></Pax>", "<Pax>&no;</Pax>", "<Pax k=1></Pax>", "<Pax><p:a/></Pax>", "</L>"])
def test_what_is_read_past_is_checked_all_the_same(bad: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(MalformedDocument):
        split_bytes(f"<r><L>{PLAIN * 50}{bad}{PLAIN * 50}</L></r>", "L/Pax")


@pytest.mark.parametrize(
    "bad",
    [
        "<Pax>" + "<a>" * 256 + "</a>" * 256 + "</Pax>",
        "<Pax><x " + " ".join(f"a{n}='1'" for n in range(1_100)) + "/></Pax>",
        "<Pax><a xmlns='not a uri'/></Pax>",
    ],
)
def test_bounds_hold_for_what_is_read_past(bad: str, split_bytes: SplitBytes) -> None:
    with pytest.raises(UnsafeDocument):
        split_bytes(f"<r><L>{PLAIN * 50}{bad}{PLAIN * 50}</L></r>", "L/Pax")


def test_every_subtree_is_one_that_lxml_reads(split_bytes: SplitBytes) -> None:
    for each in split_bytes(f"<r xmlns:x='urn:x'><L>{''.join(ODD)}</L></r>", "//Pax", "//*"):
        etree.fromstring(each.xml)
