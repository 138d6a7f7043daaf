"""The grammar of paths: what it accepts, what it means, where it says an error is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.core.errors import BadConfiguration
from thresher.workflows.discovery.subtrees import Subtree, parse_path, parse_paths

SplitBytes = Callable[..., list[Subtree]]

DOCUMENT = """
<w:Root xmlns:w="urn:w" xmlns:v="urn:v">
  <DataLists><PaxList><Pax id="1"/><Pax id="2" w:kind="x"/><w:Pax id="3"/></PaxList></DataLists>
  <More><DataLists><PaxList><Pax id="4"/></PaxList></DataLists><IATA_Code id="5"/><Code id="6"/></More>
</w:Root>
"""

MEANINGS = {
    "Pax": "1234",
    "PaxList/Pax": "1234",
    "DataLists/PaxList/Pax": "1234",
    "/Root/DataLists/PaxList/Pax": "123",
    "/DataLists/PaxList/Pax": "",
    "//Pax": "1234",
    "/Root//Pax": "1234",
    "/Root/*/Pax": "",
    "/*/*/*/Pax": "123",
    "More//Pax": "4",
    "Pax[1]": "14",
    "Pax[3]": "3",
    "PaxList/*[2]": "2",
    "Pax[@id='2']": "2",
    "Pax[@kind='x']": "2",
    "Pax[@{urn:w}kind='x']": "2",
    "Pax[@{urn:v}kind='x']": "",
    "Pax[2][@id='2']": "2",
    "Pax[1][@id='2']": "",
    "Pax[@id='2'][@kind='x']": "2",
    'Pax[@id="4"]': "4",
    "{urn:w}Pax": "3",
    "{}Pax": "124",
    "v:Pax": "1234",
    "Code": "56",
    "IATA_Code": "56",
    "/IATA_Root/More/Code": "56",
    "More[1]/Code": "56",
    "More[2]/Code": "",
    "/Root/More/*": "56",
}


@pytest.mark.parametrize(("path", "ids"), MEANINGS.items(), ids=MEANINGS.keys())
def test_a_path_means(path: str, ids: str, split_bytes: SplitBytes) -> None:
    found = [
        each for each in split_bytes(DOCUMENT.strip(), path) if 'id="' in each.xml and each.node_type != "DataLists"
    ]
    assert "".join(each.xml.partition('id="')[2][0] for each in found) == ids


WRONG = {
    "": "empty",
    "  ": "empty",
    "/": "character 2",
    "a/": "character 3",
    "a///b": "character 4",
    "a b": "character 2",
    "@a": "attribute",
    "a/@b": "attribute",
    "a/text()": "character 7",
    "a[": "character 2",
    "a[0]": "from 1",
    "a[-1]": "character 2",
    "a[last()]": "character 2",
    "a[b]": "character 2",
    "a[@b]": "character 2",
    "a[@b='x]": "character 2",
    "a[@b='1'][2]": "first, and once",
    "a[1][2]": "first, and once",
    "..": "character 1",
    "a|b": "character 2",
    "count(a)": "character 6",
    "{urn:x": "character 1",
    "a" * 70_000: "characters",
    "/".join("a" * 1_100): "1024 steps",
}


@pytest.mark.parametrize(("path", "said"), WRONG.items(), ids=[repr(path[:20]) for path in WRONG])
def test_a_wrong_path_is_refused_with_the_place(path: str, said: str) -> None:
    with pytest.raises(BadConfiguration, match=said):
        parse_path(path)


@given(text=st.text(alphabet="ab/*[]@='\"{}:.1 \n(", max_size=40))
def test_any_text_is_a_path_or_a_clear_error(text: str) -> None:
    try:
        path = parse_path(text)
    except BadConfiguration:
        return
    assert path.steps
    assert str(path) == text.strip()


def test_paths_given_twice_count_once() -> None:
    assert len(parse_paths(["a", "b", " a "])) == 2


def test_names_of_any_script_are_names(split_bytes: SplitBytes) -> None:
    for name in ["Größe", "हिन्दी", "ไทย", "x·y", "_a-b.c"]:
        assert split_bytes(f"<r><{name}/></r>", f"/r/{name}")[0].section_path == f"/r/{name}[1]"


def test_too_many_paths_are_refused() -> None:
    with pytest.raises(BadConfiguration, match="at most"):
        parse_paths([f"a{n}" for n in range(300)])


def test_paths_made_to_be_slow_are_not(split_bytes: SplitBytes) -> None:
    content = "<a>" * 200 + "<b/>" * 20_000 + "</a>" * 200
    path = "//" + "//".join(["a", "*"] * 30) + "//c"
    assert split_bytes(content, path, *[f"//a//*//a//d{n}" for n in range(50)]) == []
