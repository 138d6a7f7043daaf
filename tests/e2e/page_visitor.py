"""A visitor of the pages without scripts: reads a page, fills in a form, presses a button, as a plain browser does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import httpx2
from lxml import html
from server import RunningServer


@dataclass
class Page:
    """A page that was answered. ``tree`` is its parsed HTML."""

    answer: httpx2.Response
    tree: html.HtmlElement

    @property
    def status(self) -> int:
        return self.answer.status_code

    @property
    def text(self) -> str:
        """What is to be read on it, with single blanks."""
        return " ".join(self.tree.find("body").text_content().split())

    @property
    def address(self) -> str:
        return str(self.answer.url.raw_path.decode())

    def texts(self, xpath: str) -> list[str]:
        return [" ".join(found.text_content().split()) for found in self.tree.xpath(xpath)]

    def form(self, action: str) -> html.FormElement:
        """The form that is sent to an address that ends like this."""
        forms = [form for form in self.tree.forms if (form.action or "").split("?")[0].endswith(action)]
        assert len(forms) == 1, f"{len(forms)} forms for {action}: {[form.action for form in self.tree.forms]}"
        return forms[0]

    def forms_of_main(self) -> list[html.FormElement]:
        """The forms of the page itself, without those of its frame."""
        forms: list[html.FormElement] = self.tree.xpath("//main//form")
        return forms


class Visitor:
    """One browser: it keeps its cookies."""

    def __init__(self, server: RunningServer) -> None:
        self.client = httpx2.Client(base_url=server.address, timeout=60, trust_env=False, follow_redirects=True)

    def open(self, address: str, **query: str) -> Page:
        return _page(self.client.get(address, params=query or None))

    def follow(self, page: Page, link_text: str) -> Page:
        """Follows the one link with this text."""
        (address,) = {a.get("href") for a in page.tree.iter("a") if " ".join(a.text_content().split()) == link_text}
        return self.open(address)

    def send(self, form: html.FormElement, button: tuple[str, str] | None = None, **changes: Any) -> Page:
        """Sends a form by a button (its name and value), some fields filled in otherwise (None: not at all)."""
        fields: dict[str, Any] = {}
        for name, value in form.form_values():
            fields.setdefault(name, []).append(value)
        fields.update(changes)
        if button is not None:
            fields[button[0]] = button[1]
        sent = {name: value for name, value in fields.items() if value is not None}
        method = self.client.get if form.method == "GET" else self.client.post
        key = "params" if form.method == "GET" else "data"
        return _page(method(form.action, **{key: sent}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


def _page(answer: httpx2.Response) -> Page:
    return Page(answer, html.document_fromstring(answer.text))
