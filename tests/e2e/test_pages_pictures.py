"""Pictures of every page for the documentation: light, dark and as wide as a phone (`make screenshots`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from browser import show, visiting
from command import Thresher
from page_tour import toured
from playwright.sync_api import Browser

FOLDER = os.environ.get("THRESHER_PICTURES")
LARGEST = 150_000  # bytes of a picture
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1120, "height": 720}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1120, "height": 720}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 780}, "color_scheme": "light"},
}


@pytest.mark.skipif(not FOLDER, reason="pictures are made when they are asked for: `make screenshots`")
@pytest.mark.timeout(400)
def test_pictures_are_made_of_every_page(browser: Browser, thresher: Thresher) -> None:
    folder = Path(str(FOLDER))
    folder.mkdir(parents=True, exist_ok=True)
    with toured(thresher) as tour:
        for view, options in VIEWS.items():
            with visiting(browser, tour.server, **options) as page:
                for name, address in tour.pages.items():
                    show(page, address)
                    place = folder / f"{name}-{view}.png"
                    page.screenshot(path=place)
                    assert place.stat().st_size < LARGEST, place
