"""Runs as people look at them while they go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from thresher.bootstrap import Service, open_service
from thresher.core.config import Settings
from thresher.engine.work import ENDED
from thresher.operations import runs
from thresher.operations.pictures import picture_of
from thresher.operations.runs import RunOptions
from thresher.operations.sources import keep_source


@pytest.fixture
def service(tmp_path: Path, database_url: str) -> Iterator[Service]:
    settings = Settings(_env_file=None, database_url=database_url, data_dir=tmp_path / "data")
    with open_service(settings) as service:
        yield service
        service.host.stop()


def test_a_run_that_ends_while_it_is_looked_at_is_shown_as_ended_or_as_live(service: Service) -> None:
    """One that is neither is not told of any more: its page would rest for seconds."""
    with service.files.receive() as incoming:
        incoming.write(b"<L>" + b"".join(b"<P><Id>%d</Id></P>" % number for number in range(300)) + b"</L>")
        source = keep_source(service, "default", incoming, "many.xml")
    run_id = runs.submit(service, source, RunOptions(paths=("/L/P",))).run_id
    seen = [picture_of(service, run_id, "default")]
    service.host.start()
    while seen[-1].run.status not in ENDED:
        seen.append(picture_of(service, run_id, "default"))
    assert [picture for picture in seen[:-1] if not picture.is_live] == []
    assert not seen[-1].is_live
