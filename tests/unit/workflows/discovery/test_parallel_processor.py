from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thresher.core.config import Settings
from thresher.core.errors import AuthenticationFailed, PermanentLLMError
from thresher.engine.work import ItemStatus
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.providers.structural import StructuralClient
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.migrations import upgrade
from thresher.persistence.repositories.node_facts import stream_facts
from thresher.workflows.discovery import (
    NodeReader,
    SourceDocument,
    Subtree,
    parallel_processor,
    parse_paths,
    process_nodes_parallel,
    process_single_node,
    split,
)

ROOT = Path(__file__).resolve().parents[4]


class Failing(StructuralClient):
    """Fails for the subtrees that hold a text."""

    def __init__(self, text: str, error: Exception) -> None:
        self._text, self._error = text, error

    def complete(self, request: ModelRequest) -> ModelReply:
        if self._text in request.subtree:
            raise self._error
        return super().complete(request)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[ThreadSafeDatabaseManager]:
    engine = create_engine(f"sqlite:///{tmp_path / 'facts.db'}")
    upgrade(engine)
    db = ThreadSafeDatabaseManager(engine)
    yield db
    db.close()


@pytest.fixture
def subtrees(tmp_path: Path) -> list[Subtree]:
    file = tmp_path / "list.xml"
    items = "".join(f"<i><a>value-{n}</a></i>" for n in range(30))
    file.write_text(f"<List>{items}</List>", encoding="utf-8")
    return list(split(SourceDocument.open(file), parse_paths(["i"])))


@pytest.mark.parametrize("parallel", [True, False])
def test_results_come_in_source_order_and_their_facts_are_stored(
    db: ThreadSafeDatabaseManager, subtrees: list[Subtree], *, parallel: bool
) -> None:
    results = process_nodes_parallel(subtrees, NodeReader(StructuralClient()), db, max_workers=4, parallel=parallel)
    assert [result.subtree_path for result in results] == [f"/List/i[{n}]" for n in range(1, 31)]
    assert {(result.status, result.facts_stored, result.error) for result in results} == {
        (ItemStatus.SUCCEEDED, 1, None)
    }
    (run_id,) = {result.run_id for result in results}
    facts = list(stream_facts(db, str(run_id)))
    assert [fact["fields"][0]["value"] for fact in facts] == [f"value-{n}" for n in range(30)]


@pytest.mark.parametrize("parallel", [True, False])
def test_one_failure_is_in_its_result_and_stops_no_sibling(
    db: ThreadSafeDatabaseManager, subtrees: list[Subtree], *, parallel: bool
) -> None:
    reader = NodeReader(Failing("value-7<", PermanentLLMError("refused")))
    results = process_nodes_parallel(subtrees, reader, db, parallel=parallel)
    failed = [result for result in results if result.status is ItemStatus.DEAD]
    assert [(result.subtree_path, result.error, result.facts_stored) for result in failed] == [
        ("/List/i[8]", "refused", 0)
    ]
    assert sum(result.facts_stored for result in results) == 29


@pytest.mark.parametrize("parallel", [True, False])
def test_what_concerns_every_subtree_is_raised_and_is_no_result(
    db: ThreadSafeDatabaseManager, subtrees: list[Subtree], *, parallel: bool
) -> None:
    reader = NodeReader(Failing("value", AuthenticationFailed("the key is refused")))
    with pytest.raises(AuthenticationFailed, match="the key is refused"):
        process_nodes_parallel(subtrees, reader, db, parallel=parallel)


def test_a_source_that_breaks_on_the_way_is_raised(db: ThreadSafeDatabaseManager, subtrees: list[Subtree]) -> None:
    def breaking() -> Iterator[Subtree]:
        yield from subtrees
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="the disk went away"):
        process_nodes_parallel(breaking(), NodeReader(StructuralClient()), db)


def test_one_subtree_alone_and_its_result_as_json(db: ThreadSafeDatabaseManager, subtrees: list[Subtree]) -> None:
    result = process_single_node(subtrees[3], NodeReader(StructuralClient()), db)
    row: dict[str, Any] = json.loads(json.dumps(result.to_dict()))
    assert (row["subtree_path"], row["status"], row["facts_stored"]) == ("/List/i[4]", "succeeded", 1)
    assert row["processing_time_ms"] > 0
    assert 0 <= row["confidence"] <= 1


def test_nothing_at_all_is_no_error(db: ThreadSafeDatabaseManager) -> None:
    assert process_nodes_parallel([], NodeReader(StructuralClient()), db) == []


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    example = (parallel_processor.__doc__ or "").partition("Example::\n")[2]
    code = re.sub(r"^    ", "", example, flags=re.MULTILINE)
    exec(compile(code, "example", "exec"), {})  # noqa: S102 # the documentation's own words
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.endswith(" succeeded 1") and "/PaxList[1]/Pax[" in line for line in lines)
