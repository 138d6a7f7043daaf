"""Schedules: made, looked at with their next firings, paused, deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Query, Request, Response

from thresher.bootstrap import Service
from thresher.core.errors import BadInput
from thresher.integrations.cron import CronSchedule
from thresher.operations import schedules
from thresher.operations.access import Principal
from thresher.operations.dashboards import UTC_NAME, zone_of
from thresher.operations.schedules import SHOWN, ScheduleWish, next_firings
from thresher.persistence.repositories import schedules as repository
from thresher.persistence.repositories.batches import NewDocument
from thresher.persistence.repositories.sources import list_sources
from thresher.persistence.repositories.templates import list_templates
from thresher.web.deps import Fields, FormDep, ServiceDep, Visitor, Writer
from thresher.web.forms import lines, one, required
from thresher.web.rendering import redirect, render

router = APIRouter(prefix="/schedules")

PAGE = 50
OFFERED = 50  # of the newest documents that are kept
TEMPLATES = 500
EXAMPLES = (("30 6 * * MON-FRI", "working days, 6:30"), ("0 * * * *", "every hour"), ("0 2 1 * *", "each month, 2:00"))

Zone = Annotated[str, Cookie(alias="thresher_zone", max_length=64)]


@router.get("")
def show_schedules(
    request: Request,
    service: ServiceDep,
    visitor: Visitor,
    zone: Zone = UTC_NAME,
    after: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """The schedules of the workspace, and the form for a new one."""
    return _page(request, service, visitor, {"time_zone": [zone_of(zone).key]}, after=after)


@router.post("/preview")
def preview(request: Request, service: ServiceDep, visitor: Visitor, fields: FormDep) -> Response:
    """The form again, with when it would fire."""
    try:
        cron = CronSchedule.parse(one(fields, "expression"), one(fields, "time_zone"))
    except BadInput as error:
        return _page(request, service, visitor, fields, refusal=str(error))
    return _page(request, service, visitor, fields, firings=cron.next_firings(datetime.now(UTC), SHOWN))


@router.post("")
def create(request: Request, service: ServiceDep, writer: Writer, fields: FormDep) -> Response:
    """Stores a schedule, which fires from now on."""
    try:
        schedules.create(service, writer.workspace, _wish(fields))
    except BadInput as error:
        return _page(request, service, writer, fields, refusal=str(error))
    return redirect(request, "/schedules")


@router.post("/{schedule_id}/pause")
def pause(request: Request, service: ServiceDep, writer: Writer, schedule_id: str, _fields: FormDep) -> Response:
    """It fires no more until it is resumed."""
    schedules.pause(service, schedules.find_schedule(service, writer.workspace, schedule_id))
    return redirect(request, "/schedules")


@router.post("/{schedule_id}/resume")
def resume(request: Request, service: ServiceDep, writer: Writer, schedule_id: str, _fields: FormDep) -> Response:
    """It fires again."""
    schedules.resume(service, schedules.find_schedule(service, writer.workspace, schedule_id))
    return redirect(request, "/schedules")


@router.post("/{schedule_id}/delete")
def delete(request: Request, service: ServiceDep, writer: Writer, schedule_id: str, _fields: FormDep) -> Response:
    """Deletes it; the batches that it has begun stay."""
    found = schedules.find_schedule(service, writer.workspace, schedule_id)
    repository.delete_schedule(service.db, found.schedule_id)
    return redirect(request, "/schedules")


def _wish(fields: Fields) -> ScheduleWish:
    documents = [NewDocument("", url) for url in lines(fields, "urls")]
    documents += [NewDocument("", source_id=source_id) for source_id in fields.get("document", ())]
    name = required(fields, "name", "A schedule needs a name.")
    expression, zone = one(fields, "expression"), one(fields, "time_zone")
    return ScheduleWish(name, expression, zone, documents, one(fields, "template") or None)


def _page(  # what the page is of
    request: Request,
    service: Service,
    visitor: Principal,
    fields: Fields,
    *,
    after: str | None = None,
    refusal: str | None = None,
    firings: list[datetime] | None = None,
) -> Response:
    found = repository.list_schedules(service.db, visitor.workspace, PAGE + 1, after)
    rows = [
        (schedule, next_firings(schedule), repository.last_batch_of(service.db, schedule.schedule_id))
        for schedule in found[:PAGE]
    ]
    context: dict[str, Any] = {
        "rows": rows,
        "next": f"/schedules?after={found[PAGE - 1].schedule_id}" if len(found) > PAGE else None,
        "values": {name: one(fields, name) for name in ("name", "expression", "time_zone", "template", "urls")},
        "ticked": frozenset(fields.get("document", ())),
        "templates": list_templates(service.db, visitor.workspace, TEMPLATES),
        "sources": list_sources(service.db, visitor.workspace, OFFERED),
        "examples": EXAMPLES,
        "refusal": refusal,
        "firings": firings,
    }
    return render(request, "schedules.html", status=422 if refusal else 200, **context)
