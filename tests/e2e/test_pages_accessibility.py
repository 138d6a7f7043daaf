"""No page keeps anybody from using it, in light and in dark; and none is wider than a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from browser import serious_issues, show, visiting
from command import Thresher
from page_tour import Tour, toured
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    with toured(Thresher(tmp_path_factory.mktemp("tour"))) as tour:
        yield tour


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_issue(browser: Browser, tour: Tour, scheme: Literal["light", "dark"]) -> None:
    with visiting(browser, tour.server, color_scheme=scheme) as page:
        for name, address in tour.pages.items():
            show(page, address)
            assert serious_issues(page) == [], name


def test_no_page_is_wider_than_a_phone(browser: Browser, tour: Tour) -> None:
    with visiting(browser, tour.server, viewport={"width": 360, "height": 740}) as page:
        for name, address in tour.pages.items():
            show(page, address)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
