"""No value of any field of any form of any page is a defect: what cannot be used is said on the page."""

from __future__ import annotations

import pytest
from command import Thresher
from page_tour import toured
from page_visitor import Visitor

VALUES = ("a\0b\u202e\ufffe", "9" * 30, "-1'\"<b>&;%", "")
ENDING = ("/delete", "/cancel", "/revoke", "/sign-out")  # what other forms are about would be gone


@pytest.mark.timeout(300)
def test_no_value_in_any_form_is_a_defect(thresher_on: Thresher) -> None:
    log = thresher_on.folder / "log"
    thresher = Thresher(thresher_on.folder, {**thresher_on.environment, "LOG_FILE": str(log)})
    answers: dict[tuple[str | None, str], list[int]] = {}
    with toured(thresher) as tour, Visitor(tour.server) as visitor:
        for address in tour.pages.values():
            for form in visitor.open(address).tree.forms:
                if (form.action or "").endswith(ENDING):
                    continue
                fields = {field.name for field in form.inputs if field.name and field.get("type") != "file"}
                for field in sorted(fields - {"form_token"}):
                    kind = (form.action, field.partition(":")[0])  # of a table's rows one is enough
                    if kind not in answers:
                        answers[kind] = [visitor.send(form, **{field: value}).status for value in VALUES]
    assert {asked: status for asked, status in answers.items() if max(status) >= 500} == {}
    assert log.read_text("utf-8").count("request failed") == 0
    assert len(answers) > 25
