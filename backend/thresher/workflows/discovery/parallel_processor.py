"""The Python API of discovery: one subtree, or many at once, into a database.

Example::

    from pathlib import Path
    from thresher.bootstrap import open_database, make_reader
    from thresher.core.config import load_settings
    from thresher.workflows.discovery import Limits, SourceDocument, parse_paths, process_nodes_parallel, split

    settings = load_settings()
    limits = Limits()
    document = SourceDocument.open(Path("samples/OrderViewRS_19.2.xml"), limits)
    subtrees = split(document, parse_paths(["DataLists/PaxList/Pax"]), limits)
    with open_database(settings) as db:
        for result in process_nodes_parallel(subtrees, make_reader(settings), db, max_workers=10):
            print(result.subtree_path, result.status, result.facts_stored)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from thresher.engine.control import RunControl
from thresher.engine.executors.batch import BatchExecutor
from thresher.engine.executors.port import Executor
from thresher.engine.executors.sequential import SequentialExecutor
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.modes import Modes, ModeWish
from thresher.engine.progress import Event, ItemFinished
from thresher.engine.runner import Runner, RunnerOptions
from thresher.engine.work import ItemSpec, ItemStatus, Mode, NewRun, Run
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.node_facts import insert_node_facts
from thresher.persistence.repositories.store import SqlStore
from thresher.workflows.discovery.batch_reader import BatchLimits
from thresher.workflows.discovery.discovery_workflow import KIND, DiscoveryWorkflow, subtree_items
from thresher.workflows.discovery.node_reader import NodeReader
from thresher.workflows.discovery.subtrees import Subtree


@dataclass(frozen=True, slots=True)
class NodeProcessingResult:
    """What became of one subtree.

    ``status`` is an item status (``succeeded``, ``dead``, ``skipped``, or ``pending`` where the run stopped
    before it), ``confidence`` 0 to 1, ``processing_time_ms`` of the last attempt, ``error`` one sentence.
    """

    subtree_path: str
    status: ItemStatus
    facts_stored: int = 0
    confidence: float | None = None
    processing_time_ms: float = 0.0
    error: str | None = None
    run_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def process_single_node(subtree: Subtree, reader: NodeReader, db: ThreadSafeDatabaseManager) -> NodeProcessingResult:
    """Reads one subtree in the calling thread and stores its facts; see ``process_nodes_parallel``."""
    return process_nodes_parallel([subtree], reader, db, parallel=False)[0]


def process_nodes_parallel(
    subtrees: Iterable[Subtree],
    reader: NodeReader,
    db: ThreadSafeDatabaseManager,
    *,
    max_workers: int = 10,
    parallel: bool = True,
) -> list[NodeProcessingResult]:
    """Reads subtrees, ``max_workers`` at a time, as a run of its own; results in source order.

    One subtree's failure never stops its siblings: it is in its result. ``parallel=False`` reads them one after
    the other in the calling thread.

    Raises:
        FatalError: no subtree can be read (a wrong key, no quota); what was stored stays.
        Exception: whatever ``subtrees`` itself raised, such as ``MalformedDocument``; what was stored stays.
    """
    mode, workers = (Mode.PARALLEL, max_workers) if parallel else (Mode.SEQUENTIAL, 1)
    store = SqlStore(db, {KIND: insert_node_facts})
    reason = f"called with parallel={parallel}, {workers} workers"
    new = NewRun(kind=KIND, source={"name": "subtrees"}, options={}, mode=mode, mode_reason=reason)
    run = store.create_run(new)
    results = _Results(run.run_id)
    workflow = _GivenSubtrees(subtrees, reader, results)
    control = RunControl()
    modes = Modes(ModeWish(mode, reason), partial(_executor, max_workers))
    Runner(store, workflow, RunnerOptions()).run(run.run_id, modes, [results.listen], control)
    if control.error is not None:
        raise control.error
    return results.in_source_order()


def _executor(workers: int, mode: Mode, threads: bool) -> Executor:  # noqa: FBT001 # as Modes calls it
    executor: Executor = ThreadsExecutor(workers) if threads and mode is Mode.PARALLEL else SequentialExecutor()
    return BatchExecutor(executor, BatchLimits().max_items) if mode is Mode.BATCH else executor


class _GivenSubtrees(DiscoveryWorkflow):
    """Discovery of subtrees that the caller has split already, by the caller's reader."""

    def __init__(self, subtrees: Iterable[Subtree], reader: NodeReader, results: _Results) -> None:
        super().__init__(lambda _run, _configuration: reader)
        self._subtrees = subtrees
        self._results = results

    def plan(self, run: Run) -> Iterator[ItemSpec]:  # noqa: ARG002 # the subtrees are known
        for spec in subtree_items(self._subtrees):
            self._results.expect(spec)
            yield spec


class _Results:
    """Collects what became of each subtree."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._positions: dict[str, tuple[int, ...]] = {}
        self._results: dict[str, NodeProcessingResult] = {}

    def expect(self, spec: ItemSpec) -> None:
        """A subtree that will be read."""
        self._positions[spec.key] = spec.position
        self._results[spec.key] = NodeProcessingResult(spec.key, ItemStatus.PENDING, run_id=self._run_id)

    def listen(self, event: Event) -> None:
        """Notes the end of an attempt."""
        if not isinstance(event, ItemFinished):
            return
        found = event.result if isinstance(event.result, dict) else {}
        self._results[event.key] = NodeProcessingResult(
            subtree_path=event.key,
            status=event.status,
            facts_stored=found.get("facts", 0),
            confidence=found.get("confidence"),
            processing_time_ms=event.duration * 1000,
            error=event.error_message,
            run_id=self._run_id,
        )

    def in_source_order(self) -> list[NodeProcessingResult]:
        """All results, in the order of the document."""
        last = (1 << 62,)  # children made while processing come behind what was planned
        return [self._results[key] for key in sorted(self._results, key=lambda key: self._positions.get(key, last))]
