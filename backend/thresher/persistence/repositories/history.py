"""What the runs of a workspace came to, in slices of time: read only, grouped by the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from thresher.engine.work import AttemptStatus, RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories import statements as sql

SLICE: Final = 900  # seconds: in every time zone an hour and a day are whole numbers of slices

_run, _attempt = sql.RUNS.c, sql.ATTEMPTS.c


@dataclass(frozen=True, slots=True)
class RunsBegun:
    """Runs of one state that were begun in a slice; ``begin`` in seconds since 1970, as in all slices."""

    begin: int
    status: RunStatus
    runs: int


@dataclass(frozen=True, slots=True)
class Tries:
    """Tries that were begun in a slice and ended with an error of one class, or (None) with success.

    ``cost_usd``: of the requests whose price is known; of ``unpriced`` of them it is not. ``cache_hits``: answers that
    were known already.
    """

    begin: int
    error_class: str | None
    tries: int
    requests: int
    tokens: int
    cost_usd: float
    unpriced: int
    cache_hits: int


def runs_begun(db: ThreadSafeDatabaseManager, workspace: str, since: datetime) -> Sequence[RunsBegun]:
    """The runs of a workspace that were begun since then, by slice and by the state that they are in now."""
    begin = _slice(_run.created_at)
    query = sa.select(begin, _run.status, sa.func.count()).where(*_touched(workspace, since), _run.created_at >= since)
    with db.read() as session:
        rows = session.execute(query.group_by("slice", _run.status).order_by("slice")).all()
    return [RunsBegun(int(row[0]), RunStatus(row[1]), row[2]) for row in rows]


def tries(db: ThreadSafeDatabaseManager, workspace: str, since: datetime) -> Sequence[Tries]:
    """The tries of a workspace that were begun since then, by slice and error class.

    Only runs that have not ended before are looked at: their attempts are found by the run.
    """
    touched = sa.select(_run.id).where(*_touched(workspace, since))
    failed = sa.case((_attempt.status != AttemptStatus.SUCCEEDED.value, _attempt.error_class)).label("failed_with")
    query = (
        sa.select(_slice(_attempt.started_at), failed, *_sums())
        .where(_attempt.run_id.in_(touched), _attempt.started_at >= since)
        .group_by("slice", "failed_with")
        .order_by("slice")
    )
    with db.read() as session:
        return [_tries(row) for row in session.execute(query)]


def _touched(workspace: str, since: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """What was begun since then, too, has ended since then or not at all: one index serves both."""
    return (_run.workspace == workspace, sa.or_(_run.finished_at.is_(None), _run.finished_at >= since))


def _slice(moment: sa.ColumnElement[datetime]) -> sa.Label[int]:
    second = sa.cast(sa.extract("epoch", moment), sa.BigInteger)
    return (second - second % SLICE).label("slice")


def _sums() -> list[sa.ColumnElement[Any]]:
    unpriced = sa.case((_attempt.cost_usd.is_(None), _attempt.requests), else_=0)
    return [
        sa.func.count(),
        sa.func.sum(_attempt.requests),
        sa.func.sum(_attempt.prompt_tokens + _attempt.completion_tokens),
        sa.func.coalesce(sa.func.sum(_attempt.cost_usd), 0),
        sa.func.sum(unpriced),
        sa.func.sum(_attempt.cache_hits),
    ]


def _tries(row: sa.Row[Any]) -> Tries:
    begin, error_class, count, requests, tokens, cost, unpriced, hits = tuple(row)
    return Tries(int(begin), error_class, count, int(requests), int(tokens), float(cost), int(unpriced), int(hits))
