"""Schedules of a workspace."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from thresher.api.deps import Cursor, Limit, Reader, ServiceDep, Writer
from thresher.api.schemas.lists import PageOf
from thresher.api.schemas.problems import responses
from thresher.api.schemas.schedules import FiringsOut, ScheduleIn, ScheduleOut
from thresher.integrations.cron import CronSchedule
from thresher.operations import schedules
from thresher.persistence.repositories import schedules as repository

router = APIRouter(prefix="/api/v1", tags=["schedules"])

_PLACE = "/schedules"


@router.get(f"{_PLACE}/", operation_id="list_schedules", summary="List schedules", responses=responses())
def get_all(service: ServiceDep, reader: Reader, limit: Limit = 50, cursor: Cursor = None) -> PageOf[ScheduleOut]:
    """A page of the schedules of the workspace, the oldest first, with their next firings."""
    found = repository.list_schedules(service.db, reader.workspace, limit + 1, cursor)
    following = found[limit - 1].schedule_id if len(found) > limit else None
    return PageOf(data=[ScheduleOut.of(service, schedule) for schedule in found[:limit]], next=following)


@router.post(
    f"{_PLACE}/", operation_id="create_schedule", summary="Store a schedule", status_code=201, responses=responses()
)
@router.post("/batch/schedule", status_code=201, responses=responses(), include_in_schema=False)
def create(response: Response, service: ServiceDep, writer: Writer, wanted: ScheduleIn) -> ScheduleOut:
    """Begins a batch of the documents whenever the expression fires, from now on."""
    schedule = schedules.create(service, writer.workspace, wanted.wish())
    response.headers["Location"] = f"{router.prefix}{_PLACE}/{schedule.schedule_id}"
    return ScheduleOut.of(service, schedule)


@router.get(f"{_PLACE}/preview", operation_id="preview_schedule", summary="When it would fire", responses=responses())
def preview(
    _reader: Reader,
    expression: Annotated[str, Query(max_length=200)],
    time_zone: Annotated[str, Query(max_length=100)] = "UTC",
) -> FiringsOut:
    """The next firings of an expression, before anything is stored."""
    cron = CronSchedule.parse(expression, time_zone)
    return FiringsOut(next_firings=cron.next_firings(datetime.now(UTC), schedules.SHOWN))


@router.get(f"{_PLACE}/{{schedule_id}}", operation_id="get_schedule", summary="Show a schedule", responses=responses())
def get_one(service: ServiceDep, reader: Reader, schedule_id: str) -> ScheduleOut:
    """A schedule, its next firings and the batch that it has begun last."""
    return ScheduleOut.of(service, schedules.find_schedule(service, reader.workspace, schedule_id))


@router.put(
    f"{_PLACE}/{{schedule_id}}", operation_id="replace_schedule", summary="Change a schedule", responses=responses()
)
def replace(service: ServiceDep, writer: Writer, schedule_id: str, wanted: ScheduleIn) -> ScheduleOut:
    """Puts another schedule in its place; a paused one stays paused."""
    schedule = schedules.find_schedule(service, writer.workspace, schedule_id)
    return ScheduleOut.of(service, schedules.change(service, schedule, wanted.wish()))


@router.post(
    f"{_PLACE}/{{schedule_id}}/pause", operation_id="pause_schedule", summary="Pause a schedule", responses=responses()
)
def pause(service: ServiceDep, writer: Writer, schedule_id: str) -> ScheduleOut:
    """It fires no more until it is resumed; batches that it has begun go on."""
    schedule = schedules.find_schedule(service, writer.workspace, schedule_id)
    return ScheduleOut.of(service, schedules.pause(service, schedule))


@router.post(
    f"{_PLACE}/{{schedule_id}}/resume",
    operation_id="resume_schedule",
    summary="Go on with a schedule",
    responses=responses(),
)
def resume(service: ServiceDep, writer: Writer, schedule_id: str) -> ScheduleOut:
    """It fires again; what it would have fired while it was paused is left out."""
    schedule = schedules.find_schedule(service, writer.workspace, schedule_id)
    return ScheduleOut.of(service, schedules.resume(service, schedule))


@router.delete(
    f"{_PLACE}/{{schedule_id}}",
    operation_id="delete_schedule",
    summary="Delete a schedule",
    status_code=204,
    responses=responses(),
)
def delete(service: ServiceDep, writer: Writer, schedule_id: str) -> None:
    """Deletes a schedule; the batches that it has begun stay."""
    repository.delete_schedule(service.db, schedules.find_schedule(service, writer.workspace, schedule_id).schedule_id)
