"""Channels within a process: runs of a batch followed at once, with real databases and model servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from thresher.api.progress import Board, Frame
from thresher.bootstrap import Service, open_service
from thresher.core.config import Settings
from thresher.engine.work import Run
from thresher.operations import runs
from thresher.operations.moments import BatchMoment, RunMoment
from thresher.operations.runs import RunOptions
from thresher.operations.sources import keep_source
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


def submitted(service: Service, name: str, content: str) -> Run:
    with service.files.receive() as incoming:
        incoming.write(content.encode())
        source = keep_source(service, "default", incoming, name)
    return runs.submit(service, source, RunOptions(paths=("/L/P",)))


def document(number: int) -> str:
    return "<L>" + "".join(f"<P><Id>{number}-{one}</Id></P>" for one in range(6)) + "</L>"


async def told(board: Board, batch_id: str, run_ids: Sequence[str]) -> list[BatchMoment]:
    async with board.batch(batch_id, run_ids) as channel:
        frames = [frame async for frame in channel.frames() if isinstance(frame, Frame)]
    return [frame.moment for frame in frames if isinstance(frame.moment, BatchMoment)]


async def told_to_a_slow_one(board: Board, batch_id: str, run_ids: Sequence[str]) -> list[Frame | None]:
    """What somebody is sent who takes one state, and the next when all is over for the others."""
    async with board.batch(batch_id, run_ids) as channel:
        frames = channel.frames()
        first = await anext(frames)
        _others = [frame async for frame in channel.frames()]
        return [first, *[frame async for frame in frames]]


def test_a_batch_is_followed_to_its_end_whatever_becomes_of_its_documents(service: Service) -> None:
    batch = [submitted(service, f"{number}.xml", document(number)) for number in range(5)]
    batch.append(submitted(service, "torn.xml", "<L><P>"))
    run_ids = [run.run_id for run in batch]

    async def look_on() -> tuple[list[list[BatchMoment]], list[Frame | None]]:
        board = Board(service)
        looking = [asyncio.create_task(told(board, "b1", run_ids)) for _ in range(3)]
        slow = asyncio.create_task(told_to_a_slow_one(board, "b1", run_ids))
        await asyncio.sleep(0)  # they look on before anything has begun
        service.host.start()
        return list(await asyncio.gather(*looking)), await slow

    seen, seen_slowly = asyncio.run(look_on())
    assert [frame.is_final for frame in seen_slowly if frame] == [False, True]
    for moments in seen:
        assert all(moment.documents.total == 6 for moment in moments)
        done = [moment.documents.done for moment in moments]
        assert done == sorted(done)
        finished = [moment.nodes.finished for moment in moments]
        assert finished == sorted(finished)
        assert [moment.event for moment in moments] == ["progress"] * (len(moments) - 1) + ["finished"]
        assert any(moment.runs and moment.documents.running for moment in moments)
    last = seen[0][-1]
    assert last.line == "Batch b1: 6 of 6 documents, 1 failed"
    assert (last.nodes.succeeded, last.facts) == (30, 30)
    assert {moments[-1].number for moments in seen} == {last.number}


def test_a_run_is_told_with_the_line_of_its_batch(service: Service) -> None:
    first, second = (submitted(service, f"{number}.xml", document(number)) for number in range(2))
    run_ids = [first.run_id, second.run_id]

    async def look_on() -> list[RunMoment]:
        board = Board(service, lambda _run_id: ("b2", run_ids))
        service.host.start()
        async with board.run(second.run_id) as channel:
            frames = [frame async for frame in channel.frames() if frame is not None]
        return [frame.moment for frame in frames if isinstance(frame.moment, RunMoment)]

    moments = asyncio.run(look_on())
    lines = [moment.batch for moment in moments]
    assert lines[-1] is not None
    assert lines[-1].startswith("Batch b2: ")
    assert " of 2 documents" in lines[-1]
