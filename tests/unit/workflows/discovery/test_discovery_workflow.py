from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from thresher.core.errors import AnswerTruncated, MalformedDocument, NothingMatched, StateConflict
from thresher.engine.attempt import Context
from thresher.engine.control import RunControl
from thresher.engine.gate import Resources
from thresher.engine.work import Claim, ItemSpec, Mode, NewRun, Run
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.providers.structural import StructuralClient
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.migrations import upgrade
from thresher.persistence.repositories.store import SqlStore
from thresher.workflows.discovery import DiscoveryRequest, DiscoveryWorkflow, NodeConfiguration, NodeReader
from thresher.workflows.discovery.discovery_workflow import DEEPEST_SPLIT, SAMPLE


class Cut(StructuralClient):
    """Cuts its answer off wherever a subtree is longer than ``longest`` bytes."""

    def __init__(self, longest: int) -> None:
        self.longest = longest

    def complete(self, request: ModelRequest) -> ModelReply:
        if len(request.subtree.encode()) > self.longest:
            raise AnswerTruncated("cut")
        return super().complete(request)


@contextmanager
def stored(folder: Path) -> Iterator[SqlStore]:
    engine = create_engine(f"sqlite:///{folder / 'runs.db'}")
    upgrade(engine)
    db = ThreadSafeDatabaseManager(engine)
    yield SqlStore(db, {})
    db.close()


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "list.xml"
    file.write_text("<List><i><a>1</a><b>2</b></i><i><a>3</a></i><j><a>4</a></j></List>", encoding="utf-8")
    return file


def prepared(document: Path, *paths: str, nodes: tuple[NodeConfiguration, ...] = ()) -> NewRun:
    return DiscoveryWorkflow.prepare(DiscoveryRequest(document, paths, nodes), Mode.SEQUENTIAL, "a test")


def run_of(new: NewRun, folder: Path) -> Run:
    with stored(folder) as store:
        return store.create_run(new)


def workflow(client: StructuralClient | None = None) -> DiscoveryWorkflow:
    return DiscoveryWorkflow(lambda _run, _configuration: NodeReader(client or StructuralClient()))


def planned(document: Path, *paths: str, nodes: tuple[NodeConfiguration, ...] = ()) -> list[ItemSpec]:
    return list(workflow().plan(run_of(prepared(document, *paths, nodes=nodes), document.parent)))


def claim(spec: ItemSpec, run: Run) -> Claim:
    return Claim(
        1, run.run_id, "discovery", spec.key, spec.position, spec.stage, spec.payload, spec.attributes, 1, 0, "me"
    )


def test_the_plan_is_the_subtrees_in_document_order_and_the_same_each_time(document: Path) -> None:
    specs = planned(document, "i", "j")
    assert [spec.key for spec in specs] == ["/List/i[1]", "/List/i[2]", "/List/j[1]"]
    assert [spec.position for spec in specs] == [(0,), (1,), (2,)]
    assert planned(document, "i", "j") == specs


def test_disabled_paths_are_planned_as_skipped_and_carry_nothing(document: Path) -> None:
    nodes = (NodeConfiguration(path="i"), NodeConfiguration(path="j", enabled=False))
    assert [(spec.skip_reason, spec.payload is None) for spec in planned(document, nodes=nodes)] == [
        (None, False), (None, False), ("disabled by configuration", True),
    ]  # fmt: skip


def test_paths_that_match_nothing_and_configurations_for_others_are_refused(document: Path) -> None:
    with pytest.raises(NothingMatched, match=r"list\.xml matches nope"):
        planned(document, "nope")
    with pytest.raises(NothingMatched, match="No node of the configuration"):
        planned(document, nodes=(NodeConfiguration(path="i", message="OrderViewRS"),))


def test_a_document_that_has_changed_since_is_refused_and_a_touched_one_is_not(document: Path) -> None:
    run = run_of(prepared(document, "i"), document.parent)
    os.utime(document, (1, 1))
    assert len(list(workflow().plan(run))) == 2
    document.write_text(document.read_text("utf-8").replace("4", "5"), encoding="utf-8")
    with pytest.raises(StateConflict, match="has changed since"):
        list(workflow().plan(run))


@pytest.mark.parametrize("size", [10, SAMPLE, SAMPLE + 1, 2 * SAMPLE, 2 * SAMPLE + 1, 3 * SAMPLE])
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_change_at_either_end_of_any_document_is_noticed(tmp_path: Path, size: int, where: str) -> None:
    file = tmp_path / "x.xml"
    content = bytearray(b"<r>" + b"a" * max(size - 7, 1) + b"</r>")
    file.write_bytes(content)
    before = prepared(file, "/r").source
    content[3 if where == "first" else -5] = ord("b")
    file.write_bytes(content)
    after = prepared(file, "/r").source
    assert before["fingerprint"] != after["fingerprint"]


def test_what_stood_before_a_break_is_planned_and_then_the_place_is_told(tmp_path: Path) -> None:
    file = tmp_path / "broken.xml"
    items = "".join(f"<i><a>{n}</a><!--{'.' * 16_000}--></i>\n" for n in range(1100))
    file.write_text(f"<List>\n{items}<i></List>", encoding="utf-8")
    plan = workflow().plan(run_of(prepared(file, "i"), tmp_path))
    assert next(iter(plan)).key == "/List/i[1]"
    with pytest.raises(MalformedDocument, match="line 1102") as broken:
        list(plan)
    assert broken.value.line == 1102


def read_all(spec: ItemSpec, run: Run, reading: DiscoveryWorkflow) -> list[tuple[tuple[int, ...], dict[str, object]]]:
    """An item and, depth first, the children that it adds: (position, fact) of each."""
    context = Context(run, RunControl(), Resources())
    outcome = reading.process(claim(spec, run), context)
    facts = [(spec.position, dict(record)) for record in outcome.records]
    return facts + [fact for child in outcome.children for fact in read_all(child, run, reading)]


def test_a_subtree_whose_answer_was_cut_is_read_in_parts_in_document_order(tmp_path: Path) -> None:
    file = tmp_path / "wide.xml"
    values = [f"value number {n}" for n in range(40)]
    file.write_text("<List><i>" + "".join(f"<a>{value}</a>" for value in values) + "</i></List>", encoding="utf-8")
    run = run_of(prepared(file, "i"), tmp_path)
    (whole,) = list(workflow().plan(run))
    found = read_all(whole, run, workflow(Cut(300)))
    positions = [position for position, _ in found]
    assert positions == sorted(positions)
    assert len(positions) > 2
    assert all(position[: len(whole.position)] == whole.position for position in positions)
    fields = [field for _, fact in found for field in json.loads(str(fact["fields"]))]
    assert [field["value"] for field in fields] == values
    assert [field["path"] for field in fields] == [f"a[{n}]" for n in range(1, 41)]
    assert all(field["grounded"] for field in fields)
    assert {fact["section_path"] for _, fact in found} == {"/List/i[1]"}


def test_a_subtree_that_cannot_be_split_further_gives_its_error_back(tmp_path: Path) -> None:
    file = tmp_path / "one.xml"
    file.write_text(f"<List><i><a>{'word ' * 3}</a></i></List>", encoding="utf-8")
    run = run_of(prepared(file, "i"), tmp_path)
    (small,) = list(workflow().plan(run))
    with pytest.raises(AnswerTruncated):
        read_all(small, run, workflow(Cut(1)))
    deep = ItemSpec("k", tuple(range(DEEPEST_SPLIT + 1)), b"<i>" + b"<a>text</a>" * 100 + b"</i>", {})
    with pytest.raises(AnswerTruncated):
        read_all(deep, run, workflow(Cut(1)))
