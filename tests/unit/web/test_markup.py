from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.web.markup import LONGEST_TEXT, Mark, Part, marks_of, parts_of
from thresher.workflows.discovery.excerpts import excerpt

ADDRESS = '<Fact x="1 &gt; 0" xmlns:a="u"><!-- c --><a:B>two</a:B><a:B code="&lt;">th<i>re</i>e</a:B><C/></Fact>'


def written(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if part.kind not in {"open", "end", "break", "fold"})


def test_all_of_the_markup_is_shown_once_and_marks_nest() -> None:
    found = excerpt(ADDRESS.encode(), ["@x", "B[1]", "B[2]", "B[2]/@code", "B[2]/i", "C"])
    parts = list(parts_of(found, marks_of(found, dict.fromkeys(found.places, True))))
    assert written(parts) == ADDRESS
    opened: list[Mark | None] = []
    texts: dict[int, str] = {}
    for part in parts:
        if part.kind == "open":
            opened.append(part.mark)
        elif part.kind == "end":
            assert opened.pop() == part.mark
        else:
            for mark in opened:
                assert mark is not None
                texts[mark.number] = texts.get(mark.number, "") + part.text
    assert opened == []
    assert list(texts.values()) == [
        'x="1 &gt; 0"',
        "<a:B>two</a:B>",
        '<a:B code="&lt;">th<i>re</i>e</a:B>',
        'code="&lt;"',
        "<i>re</i>",
        "<C/>",
    ]


def test_the_indentation_that_all_lines_share_is_taken_off() -> None:
    found = excerpt(b"<A>\n      <B>1</B>\n    </A>", ["B"])
    assert written(list(parts_of(found, ()))) == "<A>\n  <B>1</B>\n</A>"


def test_a_document_without_line_breaks_gets_some() -> None:
    found = excerpt(b"<A>" + b"<B><C>some text</C></B>" * 9 + b"</A>", [])
    shown = "".join(part.text for part in parts_of(found, ()))
    assert shown.startswith("<A>\n  <B>\n    <C>some text</C>\n  </B>\n  <B>")
    assert shown.endswith("\n</A>")


def test_long_texts_are_folded() -> None:
    found = excerpt(b"<A>" + b"x" * (LONGEST_TEXT + 1) + b"</A>", ["."])
    assert [part.text for part in parts_of(found, ()) if part.kind == "fold"] == [" … 721 characters … "]


@pytest.mark.parametrize("broken", ["<", "<A", "a<b>&<!--", "<A x='", "<![CDATA[", "</", "<?p"])
def test_markup_that_is_cut_anywhere_is_shown_as_it_is(broken: str) -> None:
    found = excerpt(f"<R>{broken}".encode(), [])
    assert written(list(parts_of(found, ()))) == f"<R>{broken}"


@given(st.text(alphabet="<>&/a =\"'!-?[]\n", max_size=60))
def test_no_character_is_lost(text: str) -> None:
    found = excerpt(text.replace("\n", " ").encode(), ["a", "@a", "."])
    assert written(list(parts_of(found, marks_of(found, dict.fromkeys(found.places, True))))) == found.xml


@given(st.lists(st.integers(0, 40), min_size=2, max_size=12, unique=True).map(sorted))
def test_marks_are_where_they_are_said_to_be(edges: list[int]) -> None:
    found = excerpt(b"<R>" + b"0123456789" * 4 + b"</R>", [])
    marks = [Mark(a + 3, b + 3, number, is_proof=True) for number, (a, b) in enumerate(pairwise(edges), 1)]
    texts: dict[int, str] = {}
    now: Mark | None = None
    for part in parts_of(found, marks):
        if part.kind in {"open", "end"}:
            now = part.mark if part.kind == "open" else None
        elif now is not None:
            texts[now.number] = texts.get(now.number, "") + part.text
    assert texts == {mark.number: found.xml[mark.start : mark.end] for mark in marks}
