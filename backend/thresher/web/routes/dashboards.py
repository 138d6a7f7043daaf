"""The dashboard: what the workspace has done lately, and what comes next."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Query, Request, Response

from thresher.engine.work import RunStatus
from thresher.operations.advice import advice_on
from thresher.operations.dashboards import UTC_NAME, Dashboard, Span, Step, dashboard
from thresher.persistence.repositories.deliveries import DeliveryFilter, list_deliveries
from thresher.persistence.repositories.schedules import upcoming_schedules
from thresher.web.deps import ServiceDep, Visitor
from thresher.web.rendering import render

router = APIRouter()

SPANS = {"24 hours": Span.DAY, "7 days": Span.WEEK, "30 days": Span.MONTH, "90 days": Span.QUARTER}
USUAL = "7 days"
SHOWN = 6  # schedules, deliveries
LIVE_EVERY = 30_000  # ms between two looks

Zone = Annotated[str, Cookie(alias="thresher_zone", max_length=64)]


@router.get("/dashboard")
def show_dashboard(
    request: Request,
    service: ServiceDep,
    visitor: Visitor,
    zone: Zone = UTC_NAME,
    span: Annotated[str, Query(max_length=20)] = USUAL,
) -> Response:
    """What was done; only what changes where a part of the page asks."""
    span = span if span in SPANS else USUAL
    found = dashboard(service.db, visitor.workspace, SPANS[span], zone)
    context: dict[str, Any] = {
        "found": found,
        "charts": charts_of(found),
        "span": span,
        "spans": tuple(SPANS),
        "advice_on": advice_on,
        "live_every": LIVE_EVERY,
        "upcoming": upcoming_schedules(service.db, visitor.workspace, SHOWN),
        "deliveries": list_deliveries(service.db, visitor.workspace, DeliveryFilter(), SHOWN),
    }
    return render(request, "_dashboard.html" if request.headers.get("hx-request") else "dashboard.html", **context)


def charts_of(found: Dashboard) -> list[dict[str, Any]]:
    """The charts: each with its title, its kind of numbers, and series of a name and a look, stacked upwards."""
    return [
        _chart("runs", "Runs begun", found, {
            "succeeded": ("good", lambda step: step.runs[RunStatus.SUCCEEDED]),
            "partial": ("warn", lambda step: step.runs[RunStatus.PARTIAL]),
            "failed": ("bad", lambda step: step.runs[RunStatus.FAILED]),
            "others": ("rest", _other_runs),
        }),
        _chart("nodes", "Nodes tried", found, {
            "read": ("main", lambda step: step.read),
            "failed": ("bad", lambda step: step.failed),
        }),
        _chart("cost", "Cost", found, {"US dollars": ("main", lambda step: round(step.cost_usd, 6))}, is_money=True),
        _chart("answers", "Answers", found, {
            "asked for": ("main", lambda step: step.requests),
            "known already": ("good", lambda step: step.cache_hits),
        }),
    ]  # fmt: skip


def _other_runs(step: Step) -> int:
    told = (RunStatus.SUCCEEDED, RunStatus.PARTIAL, RunStatus.FAILED)
    return step.runs.total() - sum(step.runs[status] for status in told)


def _chart(
    name: str, title: str, found: Dashboard, series: dict[str, Any], *, is_money: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "is_money": is_money,
        "is_hourly": found.span.is_hourly,
        "times": [int(step.begin.timestamp()) for step in found.steps],
        "series": [
            {"name": label, "look": look, "values": [read(step) for step in found.steps]}
            for label, (look, read) in series.items()
        ],
    }
