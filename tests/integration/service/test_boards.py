"""Channels within a process: runs of a batch followed at once, with real databases and model servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from thresher.api.progress import Board, Frame
from thresher.bootstrap import Service, open_service
from thresher.core.config import Settings
from thresher.engine.feed import Background, RunState
from thresher.engine.progress import Snapshot
from thresher.engine.work import Counts
from thresher.operations import batches
from thresher.operations.batch_documents import document_crew
from thresher.operations.batches import BatchWish
from thresher.operations.moments import BatchMoment, Documents, RunMoment
from thresher.operations.progress import BatchTopic
from thresher.operations.run_options import RunOptionsIn
from thresher.operations.runs import announced
from thresher.operations.sources import find_source, keep_source
from thresher.persistence.repositories.batches import (
    ClaimedDocument,
    NewDocument,
    batch_of_run,
    begin_run,
    claim_documents,
    delete_batch,
    members_of_batch,
)
from thresher.testing.model_server import running_model_server


@pytest.fixture
def service(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    with running_model_server(latency=0.05) as model:
        settings = Settings(
            database_url=database_url,
            data_dir=tmp_path / "data",
            openai_base_url=model.base_url,
            llm_model="test-model",
            processing_mode="parallel",
            max_parallel_nodes=2,
        )
        with open_service(settings) as service:
            yield service
            service.host.stop()


def begun(service: Service, documents: Sequence[NewDocument]) -> str:
    """A batch whose documents have no run yet."""
    return batches.submit(service, BatchWish("default", documents, {"paths": ["/L/P"]})).batch_id


def kept(service: Service, name: str, content: str) -> NewDocument:
    with service.files.receive() as incoming:
        incoming.write(content.encode())
        return NewDocument(name, source_id=keep_source(service, "default", incoming, name).source_id)


def document(number: int, count: int = 6) -> str:
    return "<L>" + "".join(f"<P><Id>{number}-{one}</Id></P>" for one in range(count)) + "</L>"


@contextmanager
def beginning(service: Service) -> Iterator[None]:
    """Documents get their runs."""
    crew = document_crew(service)
    crew.start()
    try:
        yield
    finally:
        crew.stop()


@contextmanager
def at_work(service: Service) -> Iterator[None]:
    """The same, and these are worked on."""
    with beginning(service):
        service.host.start()
        yield


def until_begun(service: Service, batch_id: str, runs: int) -> None:
    deadline = time.monotonic() + 30
    while len(members_of_batch(service.db, batch_id).runs) < runs:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def told(board: Board, batch_id: str) -> list[BatchMoment]:
    async with board.batch(batch_id) as channel:
        frames = [frame async for frame in channel.frames() if isinstance(frame, Frame)]
    return [frame.moment for frame in frames if isinstance(frame.moment, BatchMoment)]


async def told_to_a_slow_one(board: Board, batch_id: str) -> list[Frame | None]:
    """What somebody is sent who takes one state, and the next when all is over for the others."""
    async with board.batch(batch_id) as channel:
        frames = channel.frames()
        first = await anext(frames)
        _others = [frame async for frame in channel.frames()]
        return [first, *[frame async for frame in frames]]


def test_a_batch_is_followed_to_its_end_whatever_becomes_of_its_documents(service: Service) -> None:
    documents = [kept(service, f"{number}.xml", document(number)) for number in range(5)]
    documents.append(kept(service, "torn.xml", "<L><P>"))
    documents.append(NewDocument("page.html", error_class="BadInput", error_message="This is no XML."))
    documents.append(documents[0])
    batch_id = begun(service, documents)

    async def look_on() -> tuple[list[list[BatchMoment]], list[Frame | None]]:
        board = Board(service)
        looking = [asyncio.create_task(told(board, batch_id)) for _ in range(3)]
        slow = asyncio.create_task(told_to_a_slow_one(board, batch_id))
        await asyncio.sleep(0)  # they look on before anything has begun
        with beginning(service):
            await asyncio.to_thread(until_begun, service, batch_id, 6)
            await asyncio.sleep(1)  # now they know the runs, and hear of each at once
            service.host.start()
            return list(await asyncio.gather(*looking)), await slow

    seen, seen_slowly = asyncio.run(look_on())
    assert [frame.is_final for frame in seen_slowly if frame] == [False, True]
    for moments in seen:
        is_followed_without_a_step_back(moments)
    last = seen[0][-1]
    assert last.line == f"Batch {batch_id}: 7 of 7 documents, 2 failed", "the duplicate is not read"
    assert (last.nodes.succeeded, last.facts) == (30, 30)
    assert {moments[-1].number for moments in seen} == {last.number}


def is_followed_without_a_step_back(moments: Sequence[BatchMoment]) -> None:
    assert {moment.documents.total for moment in moments} == {7}
    done = [moment.documents.done for moment in moments]
    assert done == sorted(done)
    finished = [moment.nodes.finished for moment in moments]
    assert finished == sorted(finished)
    assert [moment.event for moment in moments] == ["progress"] * (len(moments) - 1) + ["finished"]
    assert any(moment.runs and moment.documents.running for moment in moments)


def test_each_document_counts_once_at_every_moment_while_they_begin(service: Service) -> None:
    batch_id = begun(service, [kept(service, f"{number}.xml", document(number, 1)) for number in range(40)])
    topic, seen = BatchTopic(service, batch_id), []
    with at_work(service):
        while not seen or seen[-1].event == "progress":
            seen.append(topic.look())
    assert {moment.documents.total for moment in seen} == {40}
    assert seen[-1].documents.succeeded == 40


def test_what_a_run_tells_later_than_its_rows_takes_nothing_back(service: Service) -> None:
    """A node's end is committed a moment before it is told: a look in between knows more."""
    batch_id = begun(service, [kept(service, "1.xml", document(1))])
    with at_work(service):
        asyncio.run(told(Board(service), batch_id))
    topic = BatchTopic(service, batch_id)
    seen = topic.look()
    (run_id,) = topic.run_ids
    late = RunState(Background(), snapshot=Snapshot(Counts(pending=1, succeeded=5), planning_complete=True), facts=5)
    assert topic.live({run_id: late}) is None, "it has begun: the rows are looked at"
    again = topic.live({run_id: late})
    assert again is not None
    assert (again.nodes.finished, again.facts) == (seen.nodes.finished, seen.facts) == (6, 6)


def test_a_batch_without_a_run_is_told_and_its_onlookers_are_sent_home(service: Service) -> None:
    """Documents that all wait, then a server that stops."""
    batch_id = begun(service, [kept(service, "1.xml", document(1))])

    async def look_on() -> list[BatchMoment]:
        moments = []
        async with Board(service).batch(batch_id) as channel:
            async for frame in channel.frames():
                assert isinstance(frame, Frame)
                assert isinstance(frame.moment, BatchMoment)
                moments.append(frame.moment)
                if len(moments) == 3:
                    service.feed.close()
        return moments

    moments = asyncio.run(asyncio.wait_for(look_on(), 60))
    assert {moment.documents for moment in moments} == {Documents(total=1, pending=1)}
    assert {moment.event for moment in moments} == {"progress"}
    gaps = [(later.told_at - one.told_at).total_seconds() for one, later in pairwise(moments)]
    assert gaps, "told now and then"
    assert min(gaps) >= 1.0, "looked at more often, told where it says something new"


def test_onlookers_of_a_batch_that_is_deleted_meanwhile_are_told_that_it_is_gone(service: Service) -> None:
    batch_id = begun(service, [kept(service, "1.xml", document(1))])

    async def look_on() -> int:
        async with Board(service).batch(batch_id) as channel:
            frames = channel.frames()
            await anext(frames)
            await asyncio.to_thread(delete_batch, service.db, batch_id)
            assert not [frame async for frame in frames if frame is not None and frame.is_final]
            return channel.close_code

    assert asyncio.run(asyncio.wait_for(look_on(), 20)) == 4404


def test_a_run_is_told_with_the_line_of_its_batch_whose_documents_begin_one_after_the_other(service: Service) -> None:
    """Who comes for the batch itself while somebody looks on a run is told of all documents, to the last one."""
    documents = [kept(service, f"{number}.xml", document(number)) for number in range(12)]
    batch_id = begun(service, documents)
    first = claim_documents(service.db, "test", 1, 60)[0]

    async def look_on() -> tuple[list[RunMoment], list[BatchMoment]]:
        board = Board(service, partial(batch_of_run, service.db))
        run_id = begin_first(service, first)
        async with board.run(run_id) as channel:
            await asyncio.sleep(0.2)
            whole = asyncio.create_task(told(board, batch_id))
            with at_work(service):
                frames = [frame async for frame in channel.frames() if frame is not None]
                moments = await whole
        return [frame.moment for frame in frames if isinstance(frame.moment, RunMoment)], moments

    of_run, of_batch = asyncio.run(look_on())
    assert {line.partition(" of ")[2][:12] for line in (moment.batch for moment in of_run) if line} == {"12 documents"}
    assert of_run[0].batch is not None
    assert (of_batch[-1].event, of_batch[-1].documents) == ("finished", Documents(total=12, succeeded=12))


def begin_first(service: Service, claimed: ClaimedDocument) -> str:
    source = find_source(service, "default", claimed.source_id or "")
    options = RunOptionsIn.of_json(claimed.batch.options).options()
    begin_run(service.db, service.store, claimed, source.source_id, announced(service, source, options, claimed.name))
    (run_id,) = members_of_batch(service.db, claimed.batch.batch_id).runs
    return run_id


def test_the_only_state_of_a_run_that_has_ended_has_the_line_of_its_batch(service: Service) -> None:
    """The batch of a run is looked at beside it, and either may be the slower one."""
    batch_id = begun(service, [kept(service, f"{number}.xml", document(number, 1)) for number in range(3)])
    with at_work(service):
        asyncio.run(told(Board(service), batch_id))
    runs = tuple(members_of_batch(service.db, batch_id).runs)

    async def lines() -> set[str | None]:
        found = set()
        for run_id in runs * 10:
            async with Board(service, partial(batch_of_run, service.db)).run(run_id) as channel:
                (moment,) = [frame.moment async for frame in channel.frames() if frame]
            assert isinstance(moment, RunMoment)
            found.add(moment.batch)
        return found

    assert asyncio.run(lines()) == {f"Batch {batch_id}: 3 of 3 documents"}
