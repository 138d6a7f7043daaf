"""A run as people look at it: all that its rows and this process know of it at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from thresher.bootstrap import Service
from thresher.engine.work import ENDED, Run, RunRequest, RunStatus
from thresher.operations import runs
from thresher.operations.moments import Nodes, RunMoment
from thresher.operations.progress import RunTopic
from thresher.persistence.repositories.pace import Throughput, throughput

_LATELY = 15  # seconds over which the rate is measured where only rows tell it


@dataclass(frozen=True, slots=True)
class Picture:
    """A run at one moment. ``result`` is its result object. ``is_queued``: a server works on it, or is to."""

    run: Run
    moment: RunMoment
    result: Mapping[str, Any]
    throughput: Throughput | None
    is_queued: bool

    @property
    def counts(self) -> Nodes:
        """Its nodes by state."""
        return self.moment.nodes

    @property
    def is_left(self) -> bool:
        """Whether those who had nodes in hand have all ended, and no server has it in its queue."""
        return self.moment.is_left and not self.is_queued

    @property
    def is_live(self) -> bool:
        """Whether more will come without anybody asking for it."""
        return self.run.status not in ENDED and (self.is_queued or self.counts.running > 0) and not self.is_left

    @property
    def may(self) -> Mapping[str, bool]:
        """What can be asked of the run now."""
        status, counts, requested = self.run.status, self.counts, self.run.requested
        is_ended, is_cancelled = status in ENDED, status is RunStatus.CANCELLED
        is_unfinished = counts.finished < counts.total or not self.run.planning_complete
        return {
            "pause": self.is_live and requested is None,
            "resume": is_unfinished and not is_cancelled and not (self.is_live and requested is None),
            "cancel": not is_ended and requested is not RunRequest.CANCEL,
            "retry": counts.dead > 0 and not is_cancelled and requested is not RunRequest.CANCEL,
            "bring_back": is_cancelled and (counts.cancelled > 0 or not self.run.planning_complete),
            "delete": not self.is_live,
        }


def picture_of(service: Service, run_id: str, workspace: str) -> Picture:
    """Looks at a run.

    Raises:
        NotFound: the workspace has none of this name.
    """
    is_queued = service.queue.holds(run_id)  # read first: who leaves the queue has written the end of the run before
    run = runs.find_run(service, workspace, run_id)
    flow = throughput(service.db, run_id)
    return Picture(
        run=run,
        moment=_moment(service, run, flow),
        result=runs.result(service, run),
        throughput=flow,
        is_queued=is_queued,
    )


def _moment(service: Service, run: Run, flow: Throughput | None) -> RunMoment:
    """As its session tells it where this process works on it, else as its rows do."""
    topic, state = RunTopic(service, run.run_id), service.feed.state(run.run_id)
    live = None if state is None else topic.live({run.run_id: state})
    if live is not None:
        return live
    seen = topic.look()  # one look alone tells no rate
    if flow is None or run.status in ENDED:
        return seen
    rate, now_open = flow.lately(datetime.now(UTC), _LATELY), seen.nodes.total - seen.nodes.finished
    can_tell = rate > 0 and seen.planning_complete
    return replace(seen, nodes_per_second=rate, eta_seconds=now_open / rate if can_tell else None)
