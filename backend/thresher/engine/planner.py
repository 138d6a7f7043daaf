"""Makes the items of a run out of its workflow's plan, a bounded way ahead of the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from threading import Condition, Thread

from thresher.core.correlation import carried
from thresher.core.logging import get_logger
from thresher.engine.control import RunControl
from thresher.engine.ports import Store, Workflow
from thresher.engine.progress import Event, ItemsPlanned, Tally
from thresher.engine.work import ItemSpec, Run, RunRequest

log = get_logger(__name__)

FIRST_BATCH = 8  # items; the first worker starts early
LARGEST_BATCH = 128  # items
LARGEST_BATCH_BYTES = 1024 * 1024  # of payload
LONGEST_BATCH = 0.5  # seconds


class Planner:
    """Streams a workflow's plan into the store, in batches that are small at first.

    A plan that was cut off goes on behind the items that are stored already.
    """

    def __init__(self, store: Store, workflow: Workflow, run: Run, tally: Tally, ahead: int) -> None:
        self.complete = run.planning_complete
        self._store = store
        self._workflow = workflow
        self._run = run
        self._tally = tally
        self._ahead = ahead
        self._planned = run.planned
        self._batches = 0
        self._room = Condition()  # notified when enough items have finished or the run stops
        self._enough_below = 0  # unfinished items; the planner sleeps until there are fewer
        self._begun = Condition()  # notified when more of the plan is known

    @contextmanager
    def running(self, control: RunControl, emit: Callable[[Event], None], *, first: bool) -> Iterator[None]:
        """Plans while inside: all of it before anything else if ``first``, else in a thread of its own."""
        if self.complete:
            yield
            return
        if first:
            self._plan(control, emit, bounded=False)
            yield
            return
        plan = partial(carried(self._plan), control, emit, bounded=True)
        thread = Thread(target=plan, name="thresher-planner")
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            log.warning("thread not started", purpose="planning", error=type(error).__name__, reason=str(error))
            self._plan(control, emit, bounded=False)
            yield
            return
        try:
            yield
        except BaseException:
            control.stop("abandoned")
            raise
        finally:
            self.wake()
            thread.join()

    def wait_for_first(self, enough: int, control: RunControl) -> None:
        """Returns when ``enough`` items are open, when the first batch is known not to be the last, or at the end."""
        with self._begun:
            while not (self.complete or control.stopping.is_set()):
                if self._tally.unfinished >= enough or self._batches > 1:
                    return
                self._begun.wait(0.2)

    def wake(self, unfinished: int = 0) -> None:
        """So many items are left, or the run stops: more may be planned."""
        if unfinished < self._enough_below:
            with self._room:
                self._room.notify_all()

    def _plan(self, control: RunControl, emit: Callable[[Event], None], *, bounded: bool) -> None:
        """Stores batch after batch; an error of the plan fails the run and keeps what is stored."""
        try:
            specs = islice(iter(self._workflow.plan(self._run)), self._planned, None)
            for batch in _batches(specs):
                if bounded:
                    self._wait_for_room(control)
                if control.stopping.is_set():
                    return
                self._add(batch, emit)
                control.wake()
            if self._store.requested(self._run.run_id) is RunRequest.CANCEL:
                control.heed(RunRequest.CANCEL)  # the last batches may have been refused: nothing more is planned here
                return
            self._store.finish_planning(self._run.run_id, {})
            self.complete = True
            self._known_more()
            emit(ItemsPlanned(self._run.run_id, self._tally.planned(0, 0, complete=True)))
        except Exception as error:  # noqa: BLE001 # whatever ends the plan ends the run
            control.fail(error)
        control.wake()

    def _add(self, batch: list[ItemSpec], emit: Callable[[Event], None]) -> None:
        self._planned += len(batch)
        skipped = sum(1 for spec in batch if spec.skip_reason is not None)
        with self._tally.storing():
            added = self._store.add_items(self._run.run_id, batch, planned=self._planned, at=datetime.now(UTC))
            snapshot = self._tally.planned(max(added - skipped, 0), min(skipped, added))
        self._batches += 1
        self._known_more()
        emit(ItemsPlanned(self._run.run_id, snapshot))

    def _known_more(self) -> None:
        with self._begun:
            self._begun.notify_all()

    def _wait_for_room(self, control: RunControl) -> None:
        """Once so many are planned that it has to wait, it sleeps until an eighth of them is done."""
        if self._tally.unfinished < self._ahead:
            return
        with self._room:
            self._enough_below = self._ahead - self._ahead // 8
            while self._tally.unfinished >= self._enough_below and not control.stopping.is_set():
                self._room.wait(0.5)
            self._enough_below = 0


def _batches(specs: Iterator[ItemSpec]) -> Iterator[list[ItemSpec]]:
    """Cuts the stream by number, payload bytes and time, whichever comes first."""
    limit, batch, size, began = FIRST_BATCH, list[ItemSpec](), 0, time.monotonic()
    for spec in specs:
        batch.append(spec)
        size += len(spec.payload or b"")
        if len(batch) >= limit or size >= LARGEST_BATCH_BYTES or time.monotonic() - began > LONGEST_BATCH:
            yield batch
            limit, batch, size, began = min(limit * 2, LARGEST_BATCH), [], 0, time.monotonic()
    if batch:
        yield batch
