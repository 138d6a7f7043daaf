"""Targets that are read past in one step are the same as those read element by element."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from thresher.core.errors import MalformedDocument, UnsafeDocument
from thresher.workflows.discovery.subtrees import Limits, Subtree, source
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
    content = f"<r xmlns:x='urn:x'><L>{inside}</L><L>{PLAIN * 3}</L></r>"
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
