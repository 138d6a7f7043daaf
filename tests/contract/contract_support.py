"""Every behaviour of the engine holds for every executor over every database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

from thresher.core.errors import FatalError, RetryableError
from thresher.engine.control import RunControl
from thresher.engine.executors.port import Executor
from thresher.engine.gate import Resources
from thresher.engine.ports import AttemptContext
from thresher.engine.progress import Event
from thresher.engine.retry import RetryPolicy
from thresher.engine.runner import Runner, RunnerOptions
from thresher.engine.work import Claim, ItemSpec, Mode, NewRun, Outcome, Run, RunReport, Usage
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.store import SqlStore

Process = Callable[[Claim, AttemptContext], Outcome]
NO_WAIT = RetryPolicy(base=0.001, cap=0.002)


def numbered(count: int) -> list[ItemSpec]:
    return [ItemSpec(key=f"item-{number}", position=(number,), payload=b"x") for number in range(count)]


GROUP = 5  # items that go together in batch mode


class _Held:
    """What an item tells of itself within a group, passed on only where the group decides it."""

    def __init__(self, context: AttemptContext) -> None:
        self.run, self.permit, self.raise_if_stopping = context.run, context.permit, context.raise_if_stopping
        self.open_bill, self.about_to_wait = context.open_bill, context.about_to_wait
        self._context = context
        self._usages: list[Usage] = []
        self._answers: list[str] = []

    def record_usage(self, usage: Usage) -> None:
        self._usages.append(usage)

    def keep_answer(self, raw_answer: str) -> None:
        self._answers.append(raw_answer)

    def pass_on(self) -> None:
        for usage in self._usages:
            self._context.record_usage(usage)
        for answer in self._answers:
            self._context.keep_answer(answer)


class Plain:
    """A workflow of plain functions: the engine knows nothing of XML or models.

    In a group an item does what it does alone; what is wrong with it for good shows only where it is alone.
    """

    kind = "plain"

    def __init__(self, items: Sequence[ItemSpec], process: Process) -> None:
        self.items = items
        self.calls: list[str] = []
        self._process = process
        self._lock = Lock()

    def plan(self, run: Run) -> Iterator[ItemSpec]:  # noqa: ARG002
        yield from self.items

    def process(self, claim: Claim, context: AttemptContext) -> Outcome:
        with self._lock:
            self.calls.append(claim.key)
        return self._process(claim, context)

    def batch_obstacle(self, run: Run) -> str | None:  # noqa: ARG002
        return None

    def batches(self, claims: Sequence[Claim], run: Run) -> Sequence[Sequence[Claim]]:  # noqa: ARG002
        return [claims[start : start + GROUP] for start in range(0, len(claims), GROUP)]

    def process_batch(
        self, claims: Sequence[Claim], contexts: Sequence[AttemptContext]
    ) -> Sequence[Outcome | Exception]:
        return [self._in_group(claim, context) for claim, context in zip(claims, contexts, strict=True)]

    def _in_group(self, claim: Claim, context: AttemptContext) -> Outcome | Exception:
        held = _Held(context)
        result: Outcome | Exception
        try:
            result = self._process(claim, held)
        except Exception as error:  # noqa: BLE001
            result = error
        if isinstance(result, Outcome | RetryableError | FatalError):
            held.pass_on()
            with self._lock:
                self.calls.append(claim.key)
        return result


@dataclass
class Bench:
    """A store, an executor of a kind, and what a run told."""

    db: ThreadSafeDatabaseManager
    make_executor: Callable[[], Executor]
    events: list[Event] = field(default_factory=list)

    @cached_property
    def store(self) -> SqlStore:
        return SqlStore(self.db, {})

    @property
    def in_hand_at_most(self) -> int:
        """Items that workers can be in at the same moment."""
        executor = self.make_executor()
        return executor.workers * (GROUP if executor.mode is Mode.BATCH else 1)

    def new_run(self) -> Run:
        executor = self.make_executor()
        return self.store.create_run(NewRun("plain", {"name": "plain"}, {}, executor.mode, "a test"))

    def planned_run(self, count: int) -> Run:
        """A run of so many items, all of which are known before any work begins."""
        run = self.new_run()
        self.store.add_items(run.run_id, numbered(count), planned=count)
        self.store.finish_planning(run.run_id, {})
        return run

    def run(
        self,
        workflow: Plain,
        run: Run | None = None,
        *,
        options: RunnerOptions | None = None,
        control: RunControl | None = None,
        resources: Resources | None = None,
    ) -> RunReport:
        target = run or self.new_run()
        runner = Runner(self.store, workflow, options or RunnerOptions(retry=NO_WAIT, poll=0.05), resources)
        return runner.run(target.run_id, self.make_executor(), [self.events.append], control)
