"""The dashboard: what was done lately, in charts, each with its table."""

from __future__ import annotations

import json
from pathlib import Path

from command import Thresher
from page_visitor import Visitor
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
