"""A run as its rows tell it, whichever process works on it: one look after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from thresher.engine.ownership import is_dead
from thresher.engine.work import ENDED, Counts, Run, RunStatus, Totals
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.node_facts import fact_counts
from thresher.persistence.repositories.store import SqlStore

LOOK_EVERY = 0.5  # seconds, or so much that looking takes a tenth of the time
WHOLE_EVERY = 5.0  # seconds between two looks at the nodes of a run that nobody works on
RATE_OVER = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Look:
    """A run as its rows were at one moment. ``is_left``: those who had items in hand have all ended."""

    run: Run
    counts: Counts
    totals: Totals
    facts: int
    is_left: bool
    rate: float  # nodes per second, lately

    @property
    def is_last(self) -> bool:
        """Whether nothing more will come."""
        return self.is_left or self.run.status in ENDED or (self.run.status is RunStatus.PAUSED and self._is_idle)

    @property
    def _is_idle(self) -> bool:
        return self.counts.running == 0

    @property
    def eta_seconds(self) -> float | None:
        """Open nodes at the rate of late; None while none is known."""
        return self.counts.open / self.rate if self.rate > 0 else None


class Looks:
    """Looks at one run, and measures its rate from one to the next. Used by one thread at a time."""

    def __init__(self, store: SqlStore, db: ThreadSafeDatabaseManager, run_id: str) -> None:
        self.pause = LOOK_EVERY  # seconds until the next look, so that looking costs little whatever the run's size
        self._store = store
        self._db = db
        self._run_id = run_id
        self._finished: deque[tuple[float, int]] = deque()
        self._last: Look | None = None
        self._looked_at = 0.0

    def look(self) -> Look:
        """The run now.

        Raises:
            NotFound: it was deleted.
        """
        began = time.monotonic()
        with self._db.snapshot():
            look = self._seen(began)
        if look is not self._last:
            self.pause = max(LOOK_EVERY, 9 * (time.monotonic() - began))
            self._last, self._looked_at = look, began
        return look

    def _seen(self, began: float) -> Look:
        run = self._store.get_run(self._run_id)
        if self._last is not None and self._is_idle(run, began):
            return self._last
        leases = self._store.leases(self._run_id)
        counts = self._store.counts(self._run_id)
        return Look(
            run=run,
            counts=counts,
            totals=self._store.totals(self._run_id),
            facts=fact_counts(self._db, self._run_id).facts,
            is_left=run.status is RunStatus.RUNNING and _are_over(leases),
            rate=self._rate(began, counts.finished),
        )

    def _is_idle(self, run: Run, now: float) -> bool:
        """Whether nobody works on the run, and nobody has since it was looked at as a whole a short while ago."""
        is_same = self._last is not None and run == self._last.run
        return is_same and run.status is not RunStatus.RUNNING and now - self._looked_at < WHOLE_EVERY

    def _rate(self, now: float, finished: int) -> float:
        self._finished.append((now, finished))
        while now - self._finished[0][0] > RATE_OVER:
            self._finished.popleft()
        first, before = self._finished[0]
        return max(finished - before, 0) / (now - first) if now > first else 0.0


def _are_over(leases: Mapping[str, datetime]) -> bool:
    now = datetime.now(UTC)
    return bool(leases) and all(until <= now or is_dead(owner) for owner, until in leases.items())
