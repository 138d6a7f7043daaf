"""Pages out of templates: everything that is put into them is escaped text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from thresher.core.access import Role
from thresher.engine.budget import dollars
from thresher.operations.access import LOOPBACK, Principal
from thresher.operations.formats import duration, size
from thresher.web.deps import TOKEN, get_book, get_visit
from thresher.web.security import host_of
from thresher.web.visits import COOKIE, LASTS, Visit

_WORD_BEGINS = re.compile(r"(?<=[/@_-])|(?<=[a-z])(?=[A-Z])")
UNKNOWN = "\u2013"  # an en dash
STATIC = Path(__file__).parent / "static"
_HTMX = {"includeIndicatorCSS": False, "history": False, "defaultTimeout": 30_000}


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:  # noqa: ANN401 # JSON, dataclasses, what a template shows
    """A page, or a part of one, with the cookie of the visit where it is new."""
    visit = get_visit(request)
    visitor: Principal | None = getattr(request.state, "visitor", None)
    around = {
        "here": request.url.path,
        "visitor": visitor,
        "may_write": visitor is not None and visitor.role is Role.WRITE,
        "token_field": TOKEN,
        "token": get_book(request).token(visit),
        "htmx_config": json.dumps(_HTMX),
    }
    response = HTMLResponse(templates().get_template(template).render({**around, **context}), status)
    hand_out(request, response)
    return response


def redirect(request: Request, address: str) -> Response:
    """Sends the browser to another page, which it gets by GET."""
    response: Response = RedirectResponse(address, 303)
    if request.headers.get("hx-request"):
        response = Response(status_code=204, headers={"HX-Redirect": address})
    hand_out(request, response)
    return response


def hand_out(request: Request, response: Response, visit: Visit | None = None) -> None:
    """Gives the browser the cookie of its visit, where it has not got it already."""
    visit = visit or getattr(request.state, "hand_out", None)
    if visit is not None:
        response.set_cookie(
            COOKIE,
            get_book(request).written(visit),
            max_age=LASTS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https" or host_of(request.headers) not in LOOPBACK,
        )


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The templates, with what they can call."""
    environment = Environment(
        loader=PackageLoader("thresher.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=size,
        duration=duration,
        money=money,
        number=number,
        rate=rate,
        when=when,
        day=day,
        percent=percent,
        short_path=short_path,
        pretty=pretty,
        breakable=breakable,
    )
    environment.globals.update(asset=asset, number=number, duration=duration, money=money, percent=percent)
    return environment


@lru_cache(maxsize=32)
def asset(name: str) -> str:
    """The address of a file of ours, which changes with what is in it: browsers may keep it for good."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def number(value: float | None) -> str:
    """A count for people."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def rate(value: float) -> str:
    """So many a second, for people."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def money(amount: float) -> str:
    """US dollars for people."""
    return f"${dollars(amount)}"


def pretty(value: object) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def percent(part: float, whole: float) -> str:
    """A share, rounded down: 100 % only where it is all."""
    return UNKNOWN if not whole else f"{int(part * 1000 // whole) / 10:g} %"


def short_path(path: str, longest: int = 64) -> str:
    """A path whose beginning is left out where it is long."""
    if len(path) <= longest:
        return path
    cut = path.find("/", len(path) - longest)
    return f"…{path[cut if cut > 0 else len(path) - longest :]}"


def breakable(name: str) -> Markup:
    """A name or path that may be broken where its words begin, rather than anywhere."""
    return Markup("<wbr>").join(_WORD_BEGINS.split(name))


def when(moment: datetime | None) -> Markup:
    """A time that a script turns into the reader's own; in UTC without scripts."""
    if moment is None:
        return escape(UNKNOWN)
    utc = moment.astimezone(UTC)
    machine, person = utc.isoformat(timespec="seconds"), utc.strftime("%Y-%m-%d %H:%M UTC")
    return Markup('<time datetime="{}">{}</time>').format(machine, person)


def day(moment: datetime, zone: str) -> str:
    """The day of a moment on the clocks of a zone."""
    return moment.astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d")


def as_mapping(value: object) -> Mapping[str, Any]:
    """A JSON object out of a row."""
    return cast("Mapping[str, Any]", value if isinstance(value, Mapping) else {})
