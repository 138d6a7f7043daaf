"""The page that compares two runs: chosen by name and time, filtered, exported."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Thresher
from page_visitor import Visitor
from server import RunningServer, running_server

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def thresher(tmp_path_factory: pytest.TempPathFactory) -> Thresher:
    return Thresher(tmp_path_factory.mktemp("compare"))


@pytest.fixture(scope="module")
def server(thresher: Thresher) -> Iterator[RunningServer]:
    with running_server(thresher) as server:
        yield server


@pytest.fixture
def visitor(server: RunningServer) -> Iterator[Visitor]:
    with Visitor(server) as visitor:
        yield visitor


def run(server: RunningServer, body: str, name: str) -> str:
    ended = server.upload(body.encode(), name, paths=["/L/Pax", "/L/Bag"], query={"wait": 60}).json()
    assert ended["status"] == "succeeded", ended
    return str(ended["run_id"])


def two_runs(server: RunningServer) -> tuple[str, str]:
    """In the second one a passenger is called otherwise, one has gone, and a bag has come."""
    bags = "<Bag><W>20</W></Bag>"
    old = run(server, f"<L><Pax><N>Ada</N></Pax><Pax><N>Bob</N></Pax>{bags}</L>", "old.xml")
    new = run(server, f"<L><Pax><N><![CDATA[{EVIL}]]></N></Pax>{bags}<Bag><W>7</W></Bag></L>", "new.xml")
    return old, new


def test_two_runs_are_chosen_and_compared(server: RunningServer, visitor: Visitor) -> None:
    old, new = two_runs(server)
    form = visitor.open("/compare").form("/compare")
    options = [option for option in form.xpath(".//select[@id='old']/option") if option.get("value")]
    assert [option.get("value") for option in options][:2] == [new, old]
    assert options[1].text.startswith("old.xml, ")
    page = visitor.send(form, old=old, new=new)
    assert page.status == 200
    assert page.texts("//article//h3") == ["Pax", "Pax", "Bag"]
    assert page.texts("//article//td[@class='old']") == ["Ada"]
    assert page.texts("//article//td[@class='new']") == [EVIL]
    assert page.tree.xpath("//script[not(@src)]") == []
    assert page.texts("//dl[@class='figures']//dd") == ["1", "1", "1 1 values", "1", "0"]


def test_differences_are_filtered_by_kind_and_type(server: RunningServer, visitor: Visitor) -> None:
    old, new = two_runs(server)
    page = visitor.open("/compare", old=old, new=new)
    filters = next(form for form in page.tree.forms if form.get("class") == "sieve")
    assert [option.get("value") for option in filters.xpath(".//select[@id='type']/option")] == ["", "Bag", "Pax"]
    assert visitor.send(filters, type="Bag").texts("//article//h3") == ["Bag"]
    lost = visitor.send(filters, kind="lost")
    assert [text.split()[0] for text in lost.texts("//article/div")] == ["lost"]
    assert "Nothing of this kind differs" in visitor.send(filters, kind="lost", type="Bag").text


def test_a_comparison_is_exported_as_it_is_looked_at(thresher: Thresher, server: RunningServer) -> None:
    old, new = two_runs(server)
    with Visitor(server) as visitor:
        asked = {"old": old, "new": new}
        file = visitor.client.get("/compare/export", params={**asked, "format": "json"})
        assert file.json() == thresher("diff", old, new, "--json").json
        assert file.headers["content-disposition"] == f'attachment; filename="{old}-{new}.json"'
        table = visitor.client.get("/compare/export", params={**asked, "format": "csv", "kind": "changed"})
        (row,) = csv.DictReader(io.StringIO(table.text))
        assert (row["difference"], row["name"], row["old"], row["new"]) == ("changed", "N", "Ada", EVIL)


def test_the_run_before_of_the_same_document_is_suggested(server: RunningServer, visitor: Visitor) -> None:
    first, _, again = (run(server, f"<L><Pax><N>{name}</N></Pax></L>", "a.xml") for name in ("Ada", "Bob", "Ada"))
    page = visitor.open("/compare", new=again)
    assert page.tree.xpath("//select[@id='old']/option[@selected]/@value") == [first]
    same = visitor.send(page.form("/compare"))
    assert "No fact differs" in same.text
    assert same.texts("//article") == []


def test_two_runs_are_needed(tmp_path: Path) -> None:
    with running_server(Thresher(tmp_path)) as server, Visitor(server) as visitor:
        assert "Two runs are needed" in visitor.open("/compare").text


def test_what_cannot_be_compared_is_said(server: RunningServer, visitor: Visitor) -> None:
    old, new = two_runs(server)
    assert visitor.open("/compare", old="nothing", new=new).status == 404
    assert visitor.open("/compare", old=old, new=new, kind="sideways").status == 422
    assert visitor.open("/compare", old=old, new=new, page="99").status == 200
