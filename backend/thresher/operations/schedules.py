"""Schedules: batches that are begun again and again, at the times of a cron expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from thresher.bootstrap import Service
from thresher.core.errors import BadInput, NotFound, ThresherError
from thresher.core.logging import get_logger
from thresher.integrations.cron import CronSchedule
from thresher.operations.batches import MOST_DOCUMENTS, BatchWish, announced, checked
from thresher.operations.loops import Loop
from thresher.persistence.repositories import schedules as repository
from thresher.persistence.repositories.batches import NewBatch, NewDocument
from thresher.persistence.repositories.schedules import NewSchedule, Schedule
from thresher.persistence.repositories.templates import get_template

log = get_logger(__name__)

LOOK_EVERY = 1.0  # seconds
SHOWN = 5  # firings to come


@dataclass(frozen=True, slots=True)
class ScheduleWish:
    """What is wanted: when (``expression`` in ``time_zone``), which documents, read as which template says."""

    name: str
    expression: str
    time_zone: str
    documents: Sequence[NewDocument]
    template: str | None = None


def create(service: Service, workspace: str, wish: ScheduleWish) -> Schedule:
    """Stores a schedule, which fires from now on.

    Raises:
        BadInput: expression, zone, an address or the number of documents is unusable.
        NotFound: the workspace has no such template or document.
    """
    return repository.create_schedule(service.db, workspace, _new(service, workspace, wish))


def change(service: Service, schedule: Schedule, wish: ScheduleWish) -> Schedule:
    """Puts another one in its place; see ``create``."""
    return repository.replace_schedule(service.db, schedule, _new(service, schedule.workspace, wish))


def find_schedule(service: Service, workspace: str, schedule_id: str) -> Schedule:
    """A schedule of a workspace.

    Raises:
        NotFound: the workspace has none of this name.
    """
    schedule = repository.get_schedule(service.db, schedule_id)
    if schedule.workspace != workspace:
        raise NotFound(f"No schedule is named {schedule_id!r}.")
    return schedule


def next_firings(schedule: Schedule, now: datetime | None = None) -> list[datetime]:
    """The next five firings, the first of them ``next_at``; none of one that is paused."""
    if schedule.next_at is None:
        return []
    cron = CronSchedule.parse(schedule.expression, schedule.time_zone)
    return [schedule.next_at, *cron.next_firings(max(schedule.next_at, now or datetime.now(UTC)), SHOWN - 1)]


def pause(service: Service, schedule: Schedule) -> Schedule:
    """Has it fire no more until it is resumed; what it has begun goes on."""
    repository.pause_schedule(service.db, schedule.schedule_id)
    return repository.get_schedule(service.db, schedule.schedule_id)


def resume(service: Service, schedule: Schedule) -> Schedule:
    """Has it fire again; what it would have fired meanwhile is left out."""
    cron = CronSchedule.parse(schedule.expression, schedule.time_zone)
    repository.resume_schedule(service.db, schedule.schedule_id, cron.after(datetime.now(UTC)))
    return repository.get_schedule(service.db, schedule.schedule_id)


def fire_due(service: Service, now: datetime | None = None) -> list[str]:
    """Begins the batches of all schedules that are due; returns their identifiers.

    However many firings of a schedule were missed, it fires once. Several servers fire it once between them.
    """
    moment = now or datetime.now(UTC)
    begun = []
    for schedule in repository.due_schedules(service.db, moment):
        following = CronSchedule.parse(schedule.expression, schedule.time_zone).after(moment)
        batch_id = repository.fire(service.db, schedule, following, _batch(service, schedule), moment)
        if batch_id is not None:
            log.info("schedule fired", schedule_id=schedule.schedule_id, batch_id=batch_id)
            begun.append(batch_id)
    if begun:
        service.bells.batches.set()
    return begun


def scheduler(service: Service) -> Loop:
    """Fires what is due while a server lives."""
    return Loop("schedules", partial(fire_due, service), LOOK_EVERY)


def _batch(service: Service, schedule: Schedule) -> NewBatch:
    """The batch of a firing; where it cannot be made as wanted, its documents have failed and say why."""
    documents = repository.documents_of_schedule(service.db, schedule.schedule_id)
    documents = [document if document.url or document.source_id else _gone(document) for document in documents]
    wish = BatchWish(schedule.workspace, documents, name=schedule.name, template=schedule.template_id)
    try:
        batch = announced(service, wish)
    except ThresherError as error:
        failed = [
            replace(document, error_class=type(error).__name__, error_message=str(error)) for document in documents
        ]
        batch = NewBatch(schedule.workspace, failed, {}, service.settings.max_upload_bytes, name=schedule.name)
    return replace(batch, schedule_id=schedule.schedule_id)


def _gone(document: NewDocument) -> NewDocument:
    message = f"The document {document.name} is no longer kept: upload it again, and change the schedule."
    return replace(document, error_class=NotFound.__name__, error_message=message)


def _new(service: Service, workspace: str, wish: ScheduleWish) -> NewSchedule:
    cron = CronSchedule.parse(wish.expression, wish.time_zone)
    if not 1 <= len(wish.documents) <= MOST_DOCUMENTS:
        raise BadInput(f"A schedule has 1 to {MOST_DOCUMENTS:,} documents, not {len(wish.documents):,}.")
    template = get_template(service.db, workspace, wish.template) if wish.template else None
    return NewSchedule(
        wish.name,
        cron.expression,
        wish.time_zone,
        cron.after(datetime.now(UTC)),
        template.template_id if template else None,
        checked(service, workspace, wish.documents),
    )
