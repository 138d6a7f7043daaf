"""A real browser that looks at the pages of a real server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from server import RunningServer

CHROMIUM = "/usr/bin/chromium"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PATIENCE = 45_000  # ms that a browser waits for what a server is about to show
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_SERIOUS = {"serious", "critical"}

expect.set_options(timeout=PATIENCE)  # how soon a page tells is tested where it matters, not by each look at it


def started_browser() -> Iterator[Browser]:
    """Debian's Chromium; where there is none the tests are skipped, but in CI they fail."""
    found = shutil.which("chromium") or CHROMIUM
    if not Path(found).exists():
        reason = "no browser: `apt-get install chromium` installs the one that these tests drive"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_QUIET)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, server: RunningServer, **options: Any) -> Iterator[Page]:
    """A page of a visitor of its own. What a script of a document does, and what breaks on a page, fails the test."""
    context = browser.new_context(base_url=server.address, locale="en-GB", timezone_id="Europe/Berlin", **options)
    context.set_default_timeout(PATIENCE)
    page, broken = context.new_page(), list[str]()
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept() if dialog.type == "confirm" else broken.append(dialog.message))
    page.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: broken.append(asked.url) if not asked.url.startswith(server.address) else None)
    yield page
    context.close()
    assert broken == []


def show(page: Page, address: str) -> None:
    """Opens a page and waits until its scripts and the parts that it asked for are there."""
    page.goto(address)
    expect(page.locator("html[data-ready]")).to_have_count(1)
    expect(page.locator(".htmx-request")).to_have_count(0)


def serious_issues(page: Page) -> list[str]:
    """What axe finds on a page that keeps people from using it; run from outside, as the page's policy allows none."""
    page.evaluate(AXE.read_text("utf-8"))
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{issue['id']}: {node['target']} {node['failureSummary']}"
        for issue in found["violations"]
        if issue["impact"] in _SERIOUS
        for node in issue["nodes"]
    ]
