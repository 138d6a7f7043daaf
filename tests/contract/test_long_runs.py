"""What a long run must not do: grow, or stop because its database hung up on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from contract_support import Bench, Plain

from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.ports import AttemptContext
from thresher.engine.work import Claim, ItemSpec, Outcome, Run, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.migrations import upgrade

DONE = Outcome(result={"facts": 0})
MEGABYTE = 1024**2


class Numbered(Plain):
    """So many items, planned as a stream; calls ``at[n]`` when the n-th of them is processed."""

    def __init__(self, count: int, at: dict[int, Callable[[], None]]) -> None:
        super().__init__((), lambda _claim, _context: DONE)
        self._count, self._at, self._begun = count, at, 0

    def plan(self, run: Run) -> Iterator[ItemSpec]:  # noqa: ARG002
        return (ItemSpec(key=f"item-{number}", position=(number,), payload=b"x") for number in range(self._count))

    def process(self, claim: Claim, context: AttemptContext) -> Outcome:  # noqa: ARG002
        with self._lock:
            self._begun += 1
            begun = self._begun
        if begun in self._at:
            self._at[begun]()
        return DONE


class Unheard(list):  # type: ignore[type-arg]
    """What keeps no events."""

    def append(self, event: object) -> None:
        """Forgets it."""


def bench_on(db: ThreadSafeDatabaseManager) -> Bench:
    return Bench(db, lambda: ThreadsExecutor(8), Unheard())


def test_threads_handles_and_memory_stay_flat_over_twenty_thousand_items(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    upgrade(engine)
    db = ThreadSafeDatabaseManager(engine)
    seen: list[tuple[int, int]] = []
    memory: list[int] = []

    def look() -> None:
        seen.append((threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))))
        memory.append(psutil.Process(os.getpid()).memory_info().rss)

    report = bench_on(db).run(Numbered(20_000, {2_000: look, 11_000: look, 19_900: look}))
    db.close()
    assert (report.status, report.counts.succeeded) == (RunStatus.SUCCEEDED, 20_000)
    threads, handles = zip(*seen, strict=True)
    assert threads[-1] <= threads[0], "the planner's thread has ended meanwhile, no other has begun"
    assert len(set(handles)) == 1, handles
    assert memory[-1] - memory[0] < 8 * MEGABYTE, memory
