"""Schedules: when batches are begun again and again."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from thresher.api.schemas.batches import DocumentsIn
from thresher.api.schemas.templates import Name
from thresher.bootstrap import Service
from thresher.core.text import StorableText
from thresher.operations.schedules import ScheduleWish, next_firings
from thresher.persistence.repositories.schedules import Schedule, last_batch_of


class ScheduleIn(DocumentsIn):
    """A schedule to be."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "every working day",
                    "expression": "30 6 * * MON-FRI",
                    "time_zone": "Europe/Berlin",
                    "template": "passengers",
                    "urls": ["https://example.com/orders.xml"],
                }
            ]
        },
    )

    name: Name
    expression: StorableText = Field(max_length=200, description="Cron: five fields, or six with seconds first.")
    time_zone: StorableText = Field(default="UTC", max_length=100, description="A name of the IANA database.")
    template: Name | None = Field(default=None, description="How the documents are read.")

    def wish(self) -> ScheduleWish:
        """The same, for the operations."""
        return ScheduleWish(self.name, self.expression, self.time_zone, self.new_documents(), self.template)


class ScheduleOut(BaseModel):
    """A schedule as it is stored."""

    schedule_id: str
    name: str
    expression: str
    time_zone: str
    template_id: str | None
    is_paused: bool
    next_at: datetime | None = Field(description="When it fires next; null: it is paused.")
    next_firings: list[datetime]
    fired_at: datetime | None = Field(description="When it fired last.")
    last_batch_id: str | None
    created_at: datetime

    @classmethod
    def of(cls, service: Service, schedule: Schedule) -> Self:
        """A schedule as it is stored, and its firings to come."""
        named = [name for name in Schedule.__dataclass_fields__ if name in cls.model_fields]
        return cls(
            **{name: getattr(schedule, name) for name in named},
            next_firings=next_firings(schedule),
            last_batch_id=last_batch_of(service.db, schedule.schedule_id),
        )


class FiringsOut(BaseModel):
    """When an expression fires."""

    next_firings: list[datetime]
