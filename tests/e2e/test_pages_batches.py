"""Batches, schedules, notifications on the pages, by a visitor without scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from command import Thresher
from page_visitor import Page, Visitor
from server import RunningServer, running_server

from thresher.testing.model_server import running_model_server

EVIL = "<script>alert(1)</script>"
PATIENCE = 60.0  # seconds


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    thresher = Thresher(tmp_path_factory.mktemp("batches"))
    with running_server(thresher, NOTIFICATION_MAX_RETRIES="0") as server:
        yield server


@pytest.fixture
def visitor(server: RunningServer) -> Iterator[Visitor]:
    with Visitor(server) as visitor:
        yield visitor


def document(name: str) -> bytes:
    return f"<L><Pax><N><![CDATA[{name}]]></N></Pax></L>".encode()


def begin(visitor: Visitor, files: list[tuple[str, bytes]], **changes: str) -> httpx2.Response:
    fields = dict(visitor.open("/batches").form("/batches").form_values())
    parts = [("file", (name, content, "application/xml")) for name, content in files]
    parts = parts or [("file", ("", b"", "application/octet-stream"))]  # as browsers send a file that nobody chose
    return visitor.client.post("/batches", data={**fields, **changes}, files=parts)


def state_of(page: Page) -> str:
    return page.texts("//p[contains(@class,'state-row')]/span")[0]


def until(visitor: Visitor, address: str, is_so: Callable[[Page], bool]) -> Page:
    end = time.monotonic() + PATIENCE
    while not is_so(page := visitor.open(address)):
        assert time.monotonic() < end, page.text
        time.sleep(0.1)  # a server has a core to share with its runs
    return page


def test_a_batch_of_files_is_begun_and_looked_at(visitor: Visitor) -> None:
    files = [("one.xml", document("Ada")), ("two.xml", document(EVIL)), ("bad.xml", b"no xml")]
    answer = begin(visitor, files, name=EVIL)
    assert answer.status_code == 200
    address = answer.url.path
    page = until(visitor, address, lambda page: "ended" in page.text)
    assert page.texts("//h1") == [EVIL]
    assert page.tree.xpath("//script[not(@src)]") == []
    assert [text.split()[-1] for text in page.texts("//td[@data-label='State']")] == [
        "succeeded",
        "succeeded",
        "failed",
    ]
    assert "2 failed" not in page.text
    failed = visitor.open(address, state="failed")
    assert failed.texts("//td[@data-label='Document']") == ["bad.xml"]
    exported = visitor.client.get(f"{address}/export", params={"format": "csv"}).text
    assert "one.xml" in exported
    assert EVIL in exported
    assert EVIL in visitor.open("/batches").text
    deleted = visitor.send(page.form("/delete"))
    assert (deleted.address, visitor.open(address).status) == ("/batches", 404)


def test_a_batch_needs_documents_and_real_addresses(visitor: Visitor) -> None:
    nothing = begin(visitor, [])
    assert (nothing.status_code, "there is nothing to read" in nothing.text) == (422, True)
    wrong = begin(visitor, [], urls="ftp://example.com/a.xml", name="kept as typed")
    assert (wrong.status_code, "kept as typed" in wrong.text) == (422, True)


def test_a_batch_is_paused_resumed_and_cancelled(tmp_path: Path) -> None:
    """Each of its documents takes the model a second, and one is read after the other."""
    with running_model_server(latency=1.0) as model:
        asked = {"OPENAI_BASE_URL": model.base_url, "LLM_MODEL": "test-model", "MAX_CONCURRENT_RUNS": "1"}
        with running_server(Thresher(tmp_path), **asked) as server, Visitor(server) as visitor:
            address = begin(visitor, [(f"{name}.xml", document(name)) for name in "abcdefghijkl"]).url.path
            until(visitor, address, lambda page: "succeeded" in page.text)
            assert visitor.send(visitor.open(address).form("/pause")).address == address
            paused = until(visitor, address, lambda page: state_of(page) == "paused")
            assert "succeeded" in paused.text
            visitor.send(paused.form("/resume"))
            going_on = until(visitor, address, lambda page: state_of(page) == "running")
            visitor.send(going_on.form("/cancel"))
            ended = until(visitor, address, lambda page: "ended" in page.text)
            assert state_of(ended) == "cancelled"
            assert [form.action.rpartition("/")[2] for form in ended.forms_of_main()] == ["retry", "delete"]


def test_a_schedule_is_tried_made_paused_resumed_and_deleted(visitor: Visitor) -> None:
    form = visitor.open("/schedules").form("/schedules")
    typed = {
        "name": EVIL,
        "expression": "30 6 * * MON-FRI",
        "time_zone": "Europe/Berlin",
        "urls": "https://example.com/a",
    }
    form.action = "/schedules/preview"
    preview = visitor.send(form, **typed)
    assert len(preview.tree.xpath("//div[@role='status']//time")) == 5
    assert preview.tree.xpath("//input[@id='name']/@value") == [EVIL]
    form.action = "/schedules"
    assert "no cron expression" in visitor.send(form, **{**typed, "expression": "every day"}).text
    made = visitor.send(form, **typed)
    assert made.texts("//article//h2") == [EVIL]
    assert len(made.tree.xpath("//article//ol//time")) == 5
    assert EVIL in visitor.open("/dashboard").text
    paused = visitor.send(made.form("/pause"))
    assert "not before it is resumed" in paused.text
    resumed = visitor.send(paused.form("/resume"))
    assert len(resumed.tree.xpath("//article//ol//time")) == 5
    assert visitor.send(resumed.form("/delete")).texts("//article//h2") == []


def test_a_channel_is_made_tried_and_its_delivery_repeated(visitor: Visitor) -> None:
    form = visitor.open("/notifications").form("/notifications/channels")
    made = visitor.send(form, name="ours", target="https://192.0.2.1.invalid/secret-path", is_always=None)
    (secret,) = made.tree.xpath("//input[@id='secret']/@value")
    assert secret.startswith("whsec_")
    page = visitor.open("/notifications")
    assert secret not in page.text
    assert "secret-path" not in page.text
    visitor.send(page.form("/test"))
    failed = until(visitor, "/notifications", lambda page: bool(page.tree.xpath("//form[contains(@action,'repeat')]")))
    assert "failed" in failed.texts("//td[@data-label='State']")[0]
    again = visitor.send(failed.form("/repeat"))
    assert (again.status, again.address) == (200, "/notifications")
    assert "Nothing was sent yet" in visitor.send(again.form("/delete")).text


def test_a_key_to_read_is_offered_no_changes(tmp_path: Path) -> None:
    thresher = Thresher(tmp_path)
    secret = thresher("keys", "create", "reader", "--role", "read").out.strip()
    with running_server(thresher) as server, Visitor(server) as visitor:
        visitor.send(visitor.open("/sign-in").form("/sign-in"), key=secret)
        for address in ("/batches", "/schedules", "/notifications", "/node-configurations", "/keys"):
            page = visitor.open(address)
            assert page.status == 200, address
            changing = [form.action for form in page.tree.forms if form.method == "POST"]
            assert changing == ["/sign-out"], address
        token = dict(visitor.open("/keys").form("/sign-out").form_values())
        assert visitor.client.post("/keys", data={**token, "name": "mine", "role": "write"}).status_code == 403
        assert visitor.client.post("/schedules", data={**token, "name": "x"}).status_code == 403
