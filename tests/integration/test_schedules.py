"""Schedules on both databases: each firing once, whoever is there to fire it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from thresher.bootstrap import Service, open_service
from thresher.core.config import Settings
from thresher.operations import schedules
from thresher.operations.schedules import ScheduleWish, fire_due, next_firings
from thresher.persistence.repositories.batches import NewDocument, get_batch, list_documents
from thresher.persistence.repositories.schedules import Schedule, get_schedule
from thresher.persistence.repositories.templates import NewTemplate, create_template, delete_template

HOURLY = "0 * * * *"


@pytest.fixture
def services(database_url: str, tmp_path: Path) -> Iterator[list[Service]]:
    """Two servers on one database, without their loops."""
    settings = Settings(_env_file=None, database_url=database_url, data_dir=tmp_path / "data")
    with ExitStack() as closing:
        yield [closing.enter_context(open_service(settings)) for _ in range(2)]


def hourly(service: Service, **more: str) -> Schedule:
    documents = [NewDocument("", "http://192.0.2.1/a.xml")]
    return schedules.create(service, "default", ScheduleWish("hourly", HOURLY, "UTC", documents, **more))


def test_missed_firings_fire_once(services: list[Service]) -> None:
    service = services[0]
    schedule = hourly(service)
    assert schedule.next_at is not None
    assert fire_due(service, schedule.next_at - timedelta(seconds=1)) == []
    later = schedule.next_at + timedelta(days=3, minutes=20)
    (batch_id,) = fire_due(service, later)
    assert get_batch(service.db, batch_id).schedule_id == schedule.schedule_id
    after = get_schedule(service.db, schedule.schedule_id)
    assert after.next_at == schedule.next_at + timedelta(days=3, hours=1)
    assert after.fired_at == later
    assert fire_due(service, later) == []


def test_several_servers_fire_each_schedule_once(services: list[Service]) -> None:
    first, *_others = [hourly(services[0]) for _ in range(4)]
    assert first.next_at is not None
    for hour in range(3):
        now = first.next_at + timedelta(hours=hour, minutes=1)
        with ThreadPoolExecutor(4) as pool:
            begun = list(pool.map(lambda service, now=now: fire_due(service, now), [*services, *services]))
        assert len([batch_id for some in begun for batch_id in some]) == 4


def test_a_paused_schedule_fires_nothing_and_leaves_out_what_it_missed(services: list[Service]) -> None:
    service = services[0]
    schedule = schedules.pause(service, hourly(service))
    assert (schedule.next_at, next_firings(schedule)) == (None, [])
    assert fire_due(service, datetime.now(UTC) + timedelta(days=1)) == []
    resumed = schedules.resume(service, schedule)
    assert resumed.next_at is not None
    assert datetime.now(UTC) < resumed.next_at
    shown = next_firings(resumed)
    assert [later - earlier for earlier, later in pairwise(shown)] == [timedelta(hours=1)] * 4


def test_a_firing_is_read_as_its_template_says(services: list[Service]) -> None:
    service = services[0]
    template = create_template(service.db, "default", NewTemplate("low", {"priority": "low", "limit": 3}))
    schedule = hourly(service, template="low")
    with pytest.raises(Exception, match="A schedule uses the template"):
        delete_template(service.db, template)
    assert schedule.next_at is not None
    (batch_id,) = fire_due(service, schedule.next_at)
    batch = get_batch(service.db, batch_id)
    assert (batch.template, batch.priority.label, batch.options["limit"]) == ("low", "low", 3)
    assert [document.url for document in list_documents(service.db, batch_id, 10)] == ["http://192.0.2.1/a.xml"]
