"""The pages in a real browser: what people do with them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import PATIENCE, show, visiting
from command import BUNDLED, Thresher
from playwright.sync_api import Browser, Page, Route, expect
from receiver import LOOPBACK, web_server
from server import RunningServer, running_server

from thresher.testing.model_server import RunningModelServer, running_model_server

SCRIPT = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"


def message(count: int, note: str = "") -> bytes:
    """``count`` passengers of their own text."""
    pax = "".join(f"<Pax><Id>P{number}</Id><Note>desk {number * 13}{note}</Note></Pax>" for number in range(count))
    return f"<PaxList>{pax}</PaxList>".encode()


def by_model(server: RunningModelServer, **more: str) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": server.base_url,
        "LLM_MODEL": "test-model",
        "CACHE_ANSWERS": "false",
        "PROCESSING_MODE": "parallel",
        "MAX_PARALLEL_NODES": "4",
        "MAX_RETRIES": "0",
        **more,
    }


def begun(server: RunningServer, content: bytes | Path, name: str = "pax.xml", **options: str) -> str:
    answer = server.upload(content, name, **options)
    assert answer.status_code in {200, 202}, answer.text
    return str(answer.json()["run_id"])


def nodes_read(page: Page) -> int:
    found = re.search(r"([0-9]+) read", page.locator(".legend").inner_text())
    return int(found[1]) if found else 0


def until_read(page: Page, count: int) -> None:
    """Waits until the page says that so many were read; its policy lets no predicate be evaluated in it."""
    until = time.monotonic() + PATIENCE / 1000
    while nodes_read(page) < count:
        assert time.monotonic() < until, page.locator(".legend").inner_text()
        page.wait_for_timeout(50)


@pytest.fixture
def server(thresher: Thresher) -> Iterator[RunningServer]:
    with running_server(thresher) as server:
        yield server


def test_from_an_upload_to_a_proved_fact(browser: Browser, server: RunningServer) -> None:
    with visiting(browser, server) as page:
        page.goto("/")
        page.set_input_files("input[type=file]", BUNDLED)
        expect(page.get_by_role("heading", name=BUNDLED.name)).to_be_visible()
        expect(page.locator(".figures")).to_contain_text("OrderViewRS")
        expect(page.locator("#estimate")).to_contain_text("187")
        page.get_by_role("checkbox", name="/IATA_OrderViewRS/Response/DataLists/PaxList/Pax: Pax", exact=True).uncheck()
        expect(page.locator("#estimate")).to_contain_text("164")
        page.get_by_role("button", name="Start").click()
        expect(page.locator(".state")).to_have_text("succeeded")
        page.get_by_role("link", name="Facts", exact=True).click()
        expect(page.locator(".lead")).to_contain_text("every one proved")
        page.get_by_label("Type").select_option("OriginDest")
        expect(page.locator(".facts tbody tr")).to_have_count(20)
        page.locator(".facts a").first.click()
        expect(page.get_by_role("heading", name="OriginDest 1", exact=True)).to_be_visible()
        row = page.locator(".values-table tr", has_text="OriginDestID").first
        mark = page.locator(f"#place-{row.get_attribute('data-place')}")
        assert mark.inner_text() == f"<OriginDestID>{row.locator('.value-text').inner_text()}</OriginDestID>"
        row.locator("a").click()
        expect(mark).to_have_class(re.compile("chosen"))
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_role("heading", name="OriginDest 2", exact=True)).to_be_visible()


def test_news_that_come_during_a_look_are_looked_at_next(browser: Browser, thresher: Thresher) -> None:
    """A slow look is rested from for long; what was told while it was under way must not wait for that."""
    with (
        running_model_server(latency=0.05) as model,
        running_server(thresher, **by_model(model)) as server,
        visiting(browser, server) as page,
    ):
        model.hold(after=20)
        run_id = begun(server, message(60), paths="/PaxList/Pax")
        page.goto(f"/runs/{run_id}")

        def late(route: Route) -> None:
            answer = route.fetch()
            model.release()
            server.until_ended(run_id)
            time.sleep(3)  # seconds in which the page hears of that
            route.fulfill(response=answer)
            shown.append(run_id)

        shown: list[str] = []
        page.route(re.compile(rf"/runs/{run_id}$"), late, times=1)
        while not shown:
            page.wait_for_timeout(50)
        # In milliseconds; after a look that took so long it would rest for 27 seconds.
        expect(page.locator(".state")).to_have_text("succeeded", timeout=15_000)


def test_the_sample_document_leads_to_a_proved_fact_by_the_keyboard_alone(
    browser: Browser, server: RunningServer
) -> None:
    with visiting(browser, server) as page:

        def press(role: str, name: str) -> None:
            """Walks on with Tab until the focus is there, then presses Enter."""
            wanted = page.get_by_role(role, name=name, exact=True).first  # type: ignore[arg-type] # one of its literals
            wanted.wait_for()
            for _ in range(120):
                if wanted.evaluate("element => element === document.activeElement"):
                    break
                page.keyboard.press("Tab")
            else:
                raise AssertionError(f"{name} is not reached by the keyboard")
            page.keyboard.press("Enter")

        page.goto("/")
        press("link", "To the content")
        press("button", "Try it with the sample document")
        expect(page.locator("#estimate")).to_contain_text("nodes")
        press("button", "Start")
        expect(page.locator(".state")).to_have_text("succeeded")
        press("link", "Facts")
        expect(page.locator(".facts")).to_be_visible()
        press("link", page.locator(".facts a").first.inner_text())
        expect(page.locator("mark.proves").first).to_be_visible()


def test_without_scripts_all_of_it_works_too(browser: Browser, server: RunningServer) -> None:
    with visiting(browser, server, java_script_enabled=False) as page:
        page.goto("/")
        page.set_input_files("input[type=file]", {"name": "pax.xml", "mimeType": "text/xml", "buffer": message(7)})
        page.get_by_role("button", name="Look at it").click()
        page.get_by_text("Options").click()
        page.get_by_label("Only the first").fill("5")
        page.get_by_role("button", name="Estimate").click()
        expect(page.locator("#estimate")).to_contain_text(re.compile(r"nodes\s*5"))
        expect(page.get_by_label("Only the first")).to_have_value("5")
        page.get_by_role("button", name="Start").click()
        run_id = page.url.rpartition("/")[2]
        server.until_ended(run_id)
        page.reload()
        expect(page.locator(".state")).to_have_text("succeeded")
        page.get_by_role("link", name="Facts", exact=True).click()
        expect(page.locator(".facts tbody tr")).to_have_count(5)
        page.get_by_label("Below the path").fill("/PaxList/Pax[3]")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator(".facts tbody tr")).to_have_count(1)


def test_a_run_is_paused_resumed_and_cancelled(browser: Browser, thresher: Thresher) -> None:
    with (
        running_model_server(latency=0.15) as model,
        running_server(thresher, **by_model(model)) as server,
        visiting(browser, server) as page,
    ):
        page.goto(f"/runs/{begun(server, message(400), paths='/PaxList/Pax')}")
        expect(page.locator(".state")).to_have_text("running")
        until_read(page, 3)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator(".state")).to_have_text("paused")
        read = nodes_read(page)
        page.get_by_role("button", name="Resume").click()
        until_read(page, read + 1)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".state")).to_have_text("cancelled")
        expect(page.locator(".legend")).to_contain_text("cancelled")
        expect(page.get_by_role("button", name="Bring back")).to_be_visible()


def test_a_server_is_killed_and_the_page_goes_on_with_the_next_one(browser: Browser, thresher: Thresher) -> None:
    with running_model_server(latency=0.15) as model:
        settings = by_model(model)
        with running_server(thresher, **settings) as first, visiting(browser, first) as page:
            run_id = begun(first, message(120), paths="/PaxList/Pax")
            page.goto(f"/runs/{run_id}")
            until_read(page, 5)
            page.evaluate("window.isTheSamePage = true")
            first.kill()
            expect(page.locator("[data-offline]")).to_be_visible()
            with running_server(thresher, "--port", first.address.rpartition(":")[2], **settings):
                expect(page.locator("[data-offline]")).to_be_hidden()
                expect(page.locator(".state")).to_have_text("succeeded")
                expect(page.locator(".big-figure")).to_contain_text("120 of 120")
                assert page.evaluate("window.isTheSamePage")


def test_failed_nodes_are_retried_by_their_class(browser: Browser, thresher: Thresher) -> None:
    with ExitStack() as stack:
        broken = running_model_server(fail_matching="desk 26", fail_status=400)
        with broken as model:
            server = stack.enter_context(running_server(thresher, **by_model(model)))
            run_id = begun(server, message(6), paths="/PaxList/Pax")
            server.until_ended(run_id)
        stack.enter_context(running_model_server(port=model.port))  # it was mended
        page = stack.enter_context(visiting(browser, server))
        page.goto(f"/runs/{run_id}")
        expect(page.locator(".state").first).to_have_text("partial")
        page.get_by_role("button", name="Retry the nodes that failed with PermanentLLMError").click()
        expect(page.locator(".state").first).to_have_text("succeeded")


def test_a_schedule_fires_and_leads_to_what_it_has_read(browser: Browser, thresher: Thresher) -> None:
    with (
        web_server(lambda _request: (200, {}, message(3))) as web,
        running_server(thresher, **LOOPBACK) as server,
        visiting(browser, server) as page,
    ):
        page.goto("/schedules")
        page.get_by_label("Name").fill("every second")
        page.get_by_label("When, as a cron expression").fill("* * * * * *")
        page.get_by_label("Addresses of documents").fill(f"{web.address}/pax.xml")
        page.get_by_role("button", name="Make it").click()
        expect(page.get_by_role("heading", name="every second")).to_be_visible()
        batch = page.get_by_role("link", name="its batch")
        until = time.monotonic() + PATIENCE / 1000
        while not batch.count():
            assert time.monotonic() < until, "it never fired"
            page.wait_for_timeout(200)
            page.reload()
        page.get_by_role("button", name="Pause every second").click()
        expect(page.locator(".state")).to_have_text("paused")
        batch.click()
        expect(page.locator(".state").first).to_have_text("succeeded")
        page.get_by_role("link", name="pax.xml").first.click()
        page.get_by_role("link", name="Facts", exact=True).click()
        expect(page.locator(".facts tbody tr")).to_have_count(3)


def test_what_documents_hold_stays_text(browser: Browser, server: RunningServer) -> None:
    planted = SCRIPT.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&apos;")
    name = "<img src=x onerror='window.pwned=1'>.xml"
    with visiting(browser, server) as page:
        document = f"<A><B c='{planted}' d='&lt;/pre&gt;'><!--{SCRIPT}--><C>{planted}</C></B><B/></A>".encode()
        run_id = begun(server, document, name, paths="/A/B")
        broken_run = begun(server, document[:-9], name)
        server.until_ended(run_id)
        server.until_ended(broken_run)
        source_id = server.run(run_id)["source_id"]
        fact = server.client.get(f"/runs/{run_id}/facts").text
        fact_id = re.search(rf"/runs/{run_id}/facts/([0-9]+)", fact)
        assert fact_id is not None
        for address in (
            "/",
            "/runs",
            f"/documents/{source_id}",
            f"/runs/{run_id}",
            f"/runs/{broken_run}",
            f"/runs/{run_id}/facts",
            f"/runs/{run_id}/facts/{fact_id[1]}",
            f"/runs/{run_id}/facts?path={SCRIPT}&type={SCRIPT}",
        ):
            show(page, address)
            assert page.evaluate("window.pwned") is None, address
            assert page.locator("img, main script").count() == 0, address
        page.goto(f"/runs/{run_id}/facts/{fact_id[1]}")
        assert SCRIPT in page.locator(".values-table").inner_text()
        assert planted in page.locator("pre.xml").inner_text()
        page.goto(f"/runs/{broken_run}")
        assert name in page.locator("[role=alert]").inner_text()


def test_a_document_that_is_none_is_refused_where_it_was_dropped(browser: Browser, server: RunningServer) -> None:
    with visiting(browser, server) as page:
        page.goto("/")
        page.set_input_files("input[type=file]", {"name": "x.pdf", "mimeType": "text/xml", "buffer": b"%PDF-1.7"})
        expect(page.locator("[data-upload-error]")).to_contain_text("x.pdf is a PDF, not XML")
        page.set_input_files("input[type=file]", {"name": "a.xml", "mimeType": "text/xml", "buffer": message(2)})
        expect(page.get_by_role("heading", name="a.xml")).to_be_visible()


def test_instructions_and_a_schema_reach_the_run(browser: Browser, server: RunningServer) -> None:
    with visiting(browser, server) as page:
        begun(server, message(3))
        page.goto("/")
        page.get_by_role("link", name="pax.xml").click()
        node = page.locator("tr", has=page.get_by_role("checkbox", name="/PaxList/Pax: Pax", exact=True))
        node.get_by_text("Say how").click()
        node.get_by_label("Instructions").fill("Names only.")
        node.get_by_label("Schema of the record").fill("{")
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#estimate [role=alert]")).to_contain_text("The schema of /PaxList/Pax is no JSON")
        expect(node.get_by_label("Instructions")).to_have_value("Names only.")
        schema = '{"type": "object", "properties": {"Id": {"type": "string"}}}'
        node.get_by_label("Schema of the record").fill(schema)
        page.get_by_role("button", name="Start").click()
        expect(page.locator(".state").first).to_have_text("succeeded")
        page.get_by_role("link", name="Facts", exact=True).click()
        page.locator(".facts a").first.click()
        page.get_by_text("The record of your schema").click()
        expect(page.locator("details pre")).to_contain_text('"Id": "P0"')


def test_times_are_those_of_the_reader(browser: Browser, server: RunningServer) -> None:
    with visiting(browser, server) as page:
        begun(server, message(1))
        page.goto("/runs")
        expect(page.locator("time").first).to_have_attribute("title", re.compile(r"CES?T|GMT[+][12]"))
