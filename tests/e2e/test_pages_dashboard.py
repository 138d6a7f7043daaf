"""The dashboard: what was done lately, in charts, each with its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser import visiting
from command import Thresher
from page_visitor import Visitor
from playwright.sync_api import Browser, expect
from server import running_server

DOCUMENT = b"<L><Pax><N>Ada</N></Pax><Pax><N>Bob</N></Pax></L>"


def test_a_dashboard_tells_what_was_done(tmp_path: Path) -> None:
    with running_server(Thresher(tmp_path)) as server, Visitor(server) as visitor:
        assert "Nothing was read in the last 7 days" in visitor.open("/dashboard").text
        server.upload(DOCUMENT, paths="/L/Pax", query={"wait": 60})
        page = visitor.open("/dashboard", span="24 hours")
        assert page.status == 200
        assert page.texts("//dl[@class='figures']//dd")[:3] == ["1", "2", "0 %"]
        charts = [json.loads(text) for text in page.tree.xpath("//script[@type='application/json']/text()")]
        assert [chart["title"] for chart in charts] == ["Runs begun", "Nodes tried", "Cost", "Answers"]
        assert all(len(one["values"]) == len(chart["times"]) == 24 for chart in charts for one in chart["series"])
        assert charts[1]["series"][0]["values"][-1] == 2
        tables = page.tree.xpath("//section[.//script]//table")
        assert [len(table.xpath(".//tbody/tr")) for table in tables] == [24] * 4
        assert "No try has failed" in page.text
        in_berlin = visitor.client.get("/dashboard", headers={"Cookie": "thresher_zone=Europe/Berlin"})
        assert "those of Europe/Berlin" in in_berlin.text
        part = visitor.client.get("/dashboard", headers={"HX-Request": "true"})
        assert part.text.lstrip().startswith('<div id="dashboard"')


@pytest.mark.timeout(200)
def test_charts_are_drawn_in_the_reader_s_zone_and_stay_when_figures_change(browser: Browser, tmp_path: Path) -> None:
    with running_server(Thresher(tmp_path)) as server, visiting(browser, server) as page:
        server.upload(DOCUMENT, paths="/L/Pax", query={"wait": 60})
        page.goto("/dashboard")
        expect(page.get_by_text("Hours and days are those of Europe/Berlin.")).to_be_visible()
        expect(page.locator(".chart canvas")).to_have_count(4)
        figures = page.locator(".figures dd")
        expect(figures.nth(1)).to_have_text("2")
        server.upload(DOCUMENT, paths="/L/Pax", query={"wait": 60})
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as one who comes back
        expect(figures.nth(1)).to_have_text("4")
        expect(page.locator(".chart canvas")).to_have_count(4)
        page.get_by_text("As a table: Nodes tried").click()
        expect(page.get_by_role("region", name="Nodes tried").locator("tbody tr")).to_have_count(7)
