"""What somebody can look at: a run, or a batch of many; the same for every way of telling it.

A topic tells its state in two ways. ``look()`` reads the rows, whichever process works on the run, and is slow;
``live(states)`` is made of what the runs of this process tell (``engine.feed``), in memory and at once.
``api.progress`` passes both on, by WebSocket and as server-sent events.

The runs of a batch are not known from the start: each of its looks finds those that have begun since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, Protocol

from thresher.bootstrap import Service
from thresher.core.jobs import DocumentStatus
from thresher.engine.feed import DURATIONS_KEPT, ERRORS_KEPT, SLOWEST_KEPT, RunState
from thresher.engine.work import ENDED, Run, RunStatus, Totals, Usage
from thresher.operations.looks import Look, Looks
from thresher.operations.moments import (
    BatchMoment,
    BudgetState,
    Documents,
    Failure,
    Latency,
    Moment,
    Nodes,
    ResourceLoad,
    RunLine,
    RunMoment,
    SlowNode,
    rounded,
)
from thresher.persistence.repositories.batches import members_of_batch
from thresher.persistence.repositories.statistics import last_durations, last_failures, slowest_attempts
from thresher.persistence.repositories.workspace_runs import RunProgress, progress_of

MOST_RUNS_SHOWN = 50  # runs under way that the state of a batch shows one by one
BATCH_PAUSE = 1.0  # seconds between two looks at the rows of a batch
BEGINNING_PAUSE = 0.25  # the same while documents of it have no run yet
_AS_RUN = {
    DocumentStatus.WAITING: RunStatus.PENDING,
    DocumentStatus.FETCHING: RunStatus.PENDING,
    DocumentStatus.FAILED: RunStatus.FAILED,
    DocumentStatus.CANCELLED: RunStatus.CANCELLED,
}


class Topic(Protocol):
    """What somebody looks at. Used by one caller at a time. ``is_mixed``: rows tell what ``live`` does not."""

    is_mixed: bool

    @property
    def run_ids(self) -> Collection[str]:
        """The runs whose news concern it, as far as they are known: a look may find others."""

    @property
    def pause(self) -> float:
        """Seconds until the next look is worth it."""

    def look(self) -> Moment:
        """What the rows say now. Slow: not for an event loop.

        Raises:
            NotFound: it is not there any more.
        """

    def live(self, states: Mapping[str, RunState]) -> Moment | None:
        """What the runs of this process have told since the last call; None where rows have to be looked at."""


class RunTopic:
    """One run."""

    is_mixed = False

    def __init__(self, service: Service, run_id: str) -> None:
        self.run_ids = (run_id,)
        self._service = service
        self._looks = Looks(service.store, service.db, run_id)
        self._sampled: tuple[int, tuple[Latency | None, list[Failure], list[SlowNode]]] | None = None

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return self._looks.pause

    def look(self) -> RunMoment:
        """What the rows say now; see ``Topic``."""
        look = self._looks.look()
        run, totals = look.run, look.totals
        latency, failures, slowest = self._samples(look)
        told = _told(run, "rows", Nodes.of(look.counts), totals, _elapsed(run))
        return replace(
            told,
            event="finished" if run.status in ENDED else "progress",
            requested=run.requested.value if run.requested else None,
            facts=look.facts,
            nodes_per_second=round(look.rate, 2),
            eta_seconds=rounded(look.eta_seconds, 1) if run.status is RunStatus.RUNNING else None,
            in_hand=look.counts.running,
            latency=latency,
            last_errors=failures,
            slowest=slowest,
            error=run.error,
            is_left=look.is_left,
        )

    def live(self, states: Mapping[str, RunState]) -> RunMoment | None:
        """What the session of this process has come to; see ``Topic``."""
        state = states[self.run_ids[0]]
        run, snapshot, stopping = state.run, state.snapshot, state.stopping
        if run is None or snapshot is None or state.report is not None or state.is_over:
            return None
        in_hand = state.background.in_hand()
        run = replace(run, status=RunStatus.RUNNING, planning_complete=snapshot.planning_complete)
        totals = _totals(state, snapshot.usage, snapshot.errors)
        told = _told(run, "live", Nodes.of(snapshot.counts, in_hand), totals, run.elapsed_seconds + state.seconds)
        return replace(
            told,
            requested=stopping.request.value if stopping and stopping.request else None,
            committed_at=_instant(state.committed_at),
            news_since=_instant(state.news_since),
            facts=state.background.facts + state.facts,
            nodes_per_second=round(snapshot.rate, 2),
            eta_seconds=rounded(snapshot.eta_seconds, 1),
            in_hand=in_hand,
            workers=state.workers,
            resource=self._load(state.background.resource),
            latency=Latency.of(state.durations),
            last_errors=_failures(state),
            slowest=[SlowNode.of(one) for one in state.slowest],
            fallbacks=state.fallbacks,
            stopping=stopping.reason if stopping else None,
        )

    def _load(self, resource: str | None) -> ResourceLoad | None:
        if resource is None:
            return None
        return ResourceLoad.of(self._service.discovery.shared.resources.gate(resource).load())

    def _samples(self, look: Look) -> tuple[Latency | None, list[Failure], list[SlowNode]]:
        """What is read from single attempts; only where there are others than at the last look."""
        attempts, db, run_id = look.totals.attempts, self._service.db, self.run_ids[0]
        if not attempts:
            return None, [], []
        if self._sampled is None or self._sampled[0] != attempts:
            failures = last_failures(db, run_id, ERRORS_KEPT) if look.totals.errors else []
            samples = (
                Latency.of(last_durations(db, run_id, DURATIONS_KEPT)),
                [Failure.of(one, one.started_at) for one in failures],
                [SlowNode.of(one) for one in slowest_attempts(db, run_id, SLOWEST_KEPT)],
            )
            self._sampled = attempts, samples
        return self._sampled[1]


@dataclass(slots=True)
class _Member:
    """A run of a batch: as its rows were at the last look, and what it has told since."""

    status: RunStatus = RunStatus.PENDING
    progress: RunProgress = field(default_factory=RunProgress)
    live: RunState | None = None

    @property
    def nodes(self) -> Nodes:
        """Its nodes now."""
        live = self._newer_than_rows
        if live is None or live.snapshot is None:
            return Nodes.of(self.progress.counts)
        return Nodes.of(live.snapshot.counts, live.background.in_hand())

    @property
    def facts(self) -> int:
        """Its facts now."""
        live = self._newer_than_rows
        return self.progress.facts if live is None else live.background.facts + live.facts

    @property
    def _newer_than_rows(self) -> RunState | None:
        """What it has told, where the rows do not know more: they change a moment before it is told."""
        live = self.live
        if live is None or live.snapshot is None or live.snapshot.counts.finished < self.progress.counts.finished:
            return None
        return live


class BatchTopic:
    """Many runs at once. A look reads the states of all, and counts the nodes of those only that have not ended."""

    is_mixed = True

    def __init__(self, service: Service, batch_id: str) -> None:
        self._service = service
        self._batch_id = batch_id
        self._members: dict[str, _Member] = {}
        self._others = Documents()
        self._looked = False

    @property
    def run_ids(self) -> Collection[str]:
        """The runs that had begun at the last look."""
        return self._members.keys()

    @property
    def pause(self) -> float:
        """Shorter while documents are about to begin: what they tell is heard only when they are known."""
        return BEGINNING_PAUSE if self._others.pending else BATCH_PAUSE

    def look(self) -> BatchMoment:
        """What the rows say now; see ``Topic``."""
        db = self._service.db
        with db.snapshot():
            seen = members_of_batch(db, self._batch_id)
            to_count = [run_id for run_id, status in seen.runs.items() if self._may_have_changed(run_id, status)]
            progress = progress_of(db, to_count) if to_count else {}
        members = {run_id: self._members.get(run_id) or _Member() for run_id in seen.runs}
        for run_id, member in members.items():
            member.status = seen.runs[run_id]
            member.progress = progress.get(run_id, member.progress)
        self._members, self._others, self._looked = members, _without_run(seen.others), True
        return self._moment({})

    def live(self, states: Mapping[str, RunState]) -> BatchMoment | None:
        """The same with what runs have told since; None where one of them has begun or ended."""
        is_known = self._looked
        for run_id, state in states.items():
            member = self._members.get(run_id)
            if member is None:
                continue
            is_over = state.is_over or state.report is not None
            is_known = is_known and member.live is not None and not is_over
            member.live = None if is_over else state
        return self._moment(states) if is_known else None

    def _may_have_changed(self, run_id: str, status: RunStatus) -> bool:
        member = self._members.get(run_id)
        return not self._looked or member is None or status not in ENDED or status is not member.status

    def _moment(self, news: Mapping[str, RunState]) -> BatchMoment:
        members = self._members.items()
        documents = Documents.of(Counter(_status(member) for _, member in members)) + self._others
        active = [(run_id, member) for run_id, member in members if member.live or member.status is RunStatus.RUNNING]
        live = [member.live for _, member in active if member.live is not None]
        errors = sorted((one for state in live for one in _failures(state)), key=lambda one: one.at)
        return BatchMoment(
            event="finished" if documents.done == documents.total else "progress",
            batch_id=self._batch_id,
            line=documents.line(self._batch_id),
            told_at=datetime.now(UTC),
            committed_at=_instant(max((one.committed_at for one in live if one.committed_at), default=None)),
            news_since=_instant(min((one.news_since for one in news.values() if one.news_since), default=None)),
            documents=documents,
            nodes=sum((member.nodes for _, member in members), Nodes()),
            facts=sum(member.facts for _, member in members),
            nodes_per_second=round(sum(one.snapshot.rate for one in live if one.snapshot), 2),
            last_errors=errors[-ERRORS_KEPT:],
            runs=[
                RunLine(run_id, _status(member).value, member.nodes, member.facts)
                for run_id, member in active[:MOST_RUNS_SHOWN]
            ],
        )


def _without_run(others: Mapping[DocumentStatus, int]) -> Documents:
    """Documents that have no run, counted as those that have one: who waits for it is pending."""
    counts: Counter[RunStatus] = Counter()
    for status, count in others.items():
        counts[_AS_RUN[status]] += count
    return Documents.of(counts)


def _told(run: Run, source: Literal["live", "rows"], nodes: Nodes, totals: Totals, elapsed: float) -> RunMoment:
    """What is told in the same way, wherever it comes from."""
    usage = totals.usage
    return RunMoment(
        event="progress",
        run_id=run.run_id,
        status=run.status.value,
        source=source,
        told_at=datetime.now(UTC),
        nodes=nodes,
        planning_complete=run.planning_complete,
        share=round(nodes.finished / nodes.total, 4) if run.planning_complete and nodes.total else None,
        elapsed_seconds=round(elapsed, 2),
        speedup=round(totals.item_seconds / elapsed, 2) if elapsed > 0 else 0.0,
        requests=usage.requests,
        cache_hits=usage.cache_hits,
        tokens=usage.prompt_tokens + usage.completion_tokens,
        cost_usd=rounded(usage.cost_usd, 6),
        budget=BudgetState.of(run.budget, usage),
        errors=totals.errors,
        mode=run.mode.value,
        mode_reason=run.mode_reason,
        fallbacks=run.fallbacks,
    )


def _totals(state: RunState, usage: Usage, errors: Mapping[str, int]) -> Totals:
    """What the earlier sessions and this one have come to."""
    before = state.background.earlier
    names = sorted({*before.errors, *errors})
    by_class = {name: before.errors.get(name, 0) + errors.get(name, 0) for name in names}
    return Totals(before.usage + usage, before.item_seconds + state.item_seconds, errors=by_class)


def _status(member: _Member) -> RunStatus:
    return RunStatus.RUNNING if member.live is not None else member.status


def _elapsed(run: Run) -> float:
    """Working time of the sessions that have ended; while another process is in the first one, the time since."""
    if run.elapsed_seconds or run.started_at is None or run.status is not RunStatus.RUNNING:
        return run.elapsed_seconds
    return (datetime.now(UTC) - run.started_at).total_seconds()


def _failures(state: RunState) -> list[Failure]:
    return [Failure.of(one, datetime.fromtimestamp(one.committed_at, UTC)) for one in state.last_errors]


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
