"""A run as people look at it: all that its rows and this process know of it at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from thresher.bootstrap import Service
from thresher.engine.gate import Gate
from thresher.engine.ownership import is_dead
from thresher.engine.work import ENDED, Counts, Run, RunRequest, RunStatus
from thresher.operations import runs
from thresher.persistence.repositories.pace import Latencies, SlowTry, Throughput, latencies, slowest_tries, throughput

_LATELY = 15  # seconds over which the rate is measured


@dataclass(frozen=True, slots=True)
class Picture:
    """A run at one moment. ``result`` is its result object; ``gate`` None: no model is asked by this process.

    ``rate`` in nodes per second lately, ``eta_seconds`` None while it cannot be told. ``is_left``: those who had nodes
    in hand have all ended, and no server has it in its queue.
    """

    run: Run
    counts: Counts
    result: Mapping[str, Any]
    elapsed_seconds: float
    throughput: Throughput | None
    latencies: Latencies | None
    slowest: Sequence[SlowTry]
    gate: Gate | None
    rate: float
    is_left: bool
    is_queued: bool

    @property
    def is_live(self) -> bool:
        """Whether more will come without anybody asking for it."""
        return self.run.status not in ENDED and (self.is_queued or self.counts.running > 0) and not self.is_left

    @property
    def eta_seconds(self) -> float | None:
        """Open nodes at the rate of late."""
        return self.counts.open / self.rate if self.rate > 0 and self.run.planning_complete else None

    @property
    def speedup(self) -> float:
        """Sum of item times divided by wall time, measured."""
        seconds: float = self.result["item_seconds_sum"]
        return seconds / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def may(self) -> Mapping[str, bool]:
        """What can be asked of the run now."""
        status, counts = self.run.status, self.counts
        is_ended, is_cancelled = status in ENDED, status is RunStatus.CANCELLED
        is_unfinished = counts.open > 0 or not self.run.planning_complete
        return {
            "pause": not is_ended and self.is_live and self.run.requested is None,
            "resume": is_unfinished and not is_cancelled and not (self.is_live and self.run.requested is None),
            "cancel": not is_ended and self.run.requested is not RunRequest.CANCEL,
            "retry": counts.dead > 0 and not is_cancelled and self.run.requested is not RunRequest.CANCEL,
            "bring_back": is_cancelled and (counts.cancelled > 0 or not self.run.planning_complete),
            "delete": is_ended or not self.is_live,
        }


def picture_of(service: Service, run_id: str, workspace: str) -> Picture:
    """Looks at a run.

    Raises:
        NotFound: the workspace has none of this name.
    """
    run, now = runs.find_run(service, workspace, run_id), datetime.now(UTC)
    leases, is_queued = service.store.leases(run_id), service.queue.holds(run_id)
    flow = throughput(service.db, run_id)
    return Picture(
        run=run,
        counts=service.store.counts(run_id),
        result=runs.result(service, run),
        elapsed_seconds=_elapsed(run, now),
        throughput=flow,
        latencies=latencies(service.db, run_id),
        slowest=slowest_tries(service.db, run_id),
        gate=_gate(service, run),
        rate=flow.lately(now, _LATELY) if flow is not None and run.status not in ENDED else 0.0,
        is_left=bool(leases) and not is_queued and all(until <= now or is_dead(who) for who, until in leases.items()),
        is_queued=is_queued,
    )


def _elapsed(run: Run, now: datetime) -> float:
    """Working time; of a session under way as far as it can be told: from the beginning of the first one."""
    is_first = run.status is RunStatus.RUNNING and not run.elapsed_seconds and run.started_at is not None
    return (now - run.started_at).total_seconds() if is_first and run.started_at else run.elapsed_seconds


def _gate(service: Service, run: Run) -> Gate | None:
    """The gate before the model that reads the run, where this process has asked it."""
    resource = service.discovery.read_as(run).client.resource if run.status is RunStatus.RUNNING else None
    gates = service.discovery.shared.resources.gates()
    return next((gate for gate in gates if gate.name == resource), None)
