"""What runs have cost, by path and in all; and what a model took in earlier runs, for estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from thresher.engine.work import AttemptStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories import statements as sql
from thresher.persistence.tables import CachedAnswerRow

_RUNS_LEARNED_FROM = 20  # the newest ones of a model
_PATH = "node_path"  # the label of the groups

_attempt = sql.ATTEMPTS.c
_tokens = _attempt.prompt_tokens + _attempt.completion_tokens
_failed = _attempt.status != AttemptStatus.SUCCEEDED.value


@dataclass(frozen=True, slots=True)
class PathCosts:
    """What the nodes of one path took. ``cost_usd`` None: unknown. ``failed_*``: of that, for tries without success."""

    path: str
    nodes: int
    facts: int
    requests: int
    tokens: int
    cost_usd: float | None
    cached_answers: int
    failed_requests: int
    failed_tokens: int
    failed_cost_usd: float | None

    @property
    def cost_per_fact_usd(self) -> float | None:
        """US dollars for each fact, failed tries included; None without facts or without a price."""
        return None if self.cost_usd is None or not self.facts else self.cost_usd / self.facts


def costs_by_path(db: ThreadSafeDatabaseManager, run_id: str) -> list[PathCosts]:
    """The costs of a run's paths, the dearest first (where prices are unknown: those of most tokens)."""
    path = sql.ITEMS.c.attributes["path"].as_string().label(_PATH)
    spent = (
        sa.select(path, *_sums())
        .join_from(sql.ATTEMPTS, sql.ITEMS, sql.ITEMS.c.id == _attempt.item_id)
        .where(_attempt.run_id == run_id)
        .group_by(_PATH)
    )
    yielded = (
        sa.select(path, sa.func.count())
        .join_from(sql.NODE_FACTS, sql.ITEMS, sql.ITEMS.c.id == sql.NODE_FACTS.c.item_id)
        .where(sql.NODE_FACTS.c.run_id == run_id)
        .group_by(_PATH)
    )
    with db.read() as session:
        facts: dict[str | None, int] = {row[0]: row[1] for row in session.execute(yielded)}
        found = [_path_costs(row, facts.get(row[0], 0)) for row in session.execute(spent)]
    return sorted(found, key=lambda costs: (-(costs.cost_usd or 0.0), -costs.tokens, costs.path))


def _sums() -> list[sa.ColumnElement[Any]]:
    def part(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.coalesce(sa.func.sum(sa.case((_failed, value), else_=0)), 0)

    unpriced = sa.case((_attempt.cost_usd.is_(None), 1), else_=0)
    return [
        sa.func.count(sa.distinct(_attempt.item_id)),
        sa.func.sum(_attempt.requests),
        sa.func.sum(_tokens),
        sa.func.coalesce(sa.func.sum(_attempt.cost_usd), 0),
        sa.func.sum(unpriced),
        sa.func.sum(_attempt.cache_hits),
        part(_attempt.requests),
        part(_tokens),
        part(sa.func.coalesce(_attempt.cost_usd, 0)),
        part(unpriced),
    ]


def _path_costs(row: sa.Row[Any], facts: int) -> PathCosts:
    path, nodes, requests, tokens, cost, unpriced, hits, *failed = tuple(row)
    failed_requests, failed_tokens, failed_cost, failed_unpriced = failed
    return PathCosts(
        path=path or "",
        nodes=int(nodes),
        facts=facts,
        requests=int(requests),
        tokens=int(tokens),
        cost_usd=None if unpriced else float(cost),
        cached_answers=int(hits),
        failed_requests=int(failed_requests),
        failed_tokens=int(failed_tokens),
        failed_cost_usd=None if failed_unpriced else float(failed_cost),
    )


@dataclass(frozen=True, slots=True)
class Experience:
    """What a model took in its newest runs, as far as its server said it.

    Means: ``tokens_per_byte`` of a prompt (see ``llm.spending.prompt_bytes``); of a node that was asked about:
    ``requests_per_node`` (re-asks and failures included), ``answer_tokens_per_node``, ``seconds_per_node``, all its
    tries together.
    """

    nodes: int
    tokens_per_byte: float
    requests_per_node: float
    answer_tokens_per_node: float
    seconds_per_node: float


def experience_with(db: ThreadSafeDatabaseManager, provider: str, model: str) -> Experience | None:
    """What is known of a model; None where it has answered nothing here."""
    of_model = (sql.RUNS.c.provider == provider) & (sql.RUNS.c.model == model)
    newest = sa.select(sql.RUNS.c.id).where(of_model).order_by(sql.RUNS.c.id.desc()).limit(_RUNS_LEARNED_FROM)
    measured = sa.case((_attempt.prompt_bytes > 0, _attempt.prompt_tokens), else_=0)
    query = sa.select(
        sa.func.count(sa.distinct(_attempt.item_id)),
        sa.func.sum(measured),
        sa.func.sum(_attempt.prompt_bytes),
        sa.func.sum(_attempt.requests),
        sa.func.sum(_attempt.completion_tokens),
        sa.func.sum(_attempt.duration_seconds),
    ).where(_attempt.run_id.in_(newest), _attempt.requests > 0)
    with db.read() as session:
        nodes, tokens, size, requests, answers, seconds = session.execute(query).one()
    if not nodes or not size:
        return None
    return Experience(nodes, tokens / size, requests / nodes, answers / nodes, float(seconds) / nodes)


def mean_cached_answer(db: ThreadSafeDatabaseManager, provider: str, model: str) -> tuple[float, float | None] | None:
    """Tokens and US dollars that it took on average to get a kept answer of a model; None where none is kept."""
    row = CachedAnswerRow
    query = sa.select(
        sa.func.count(),
        sa.func.avg(row.prompt_tokens + row.completion_tokens),
        sa.func.count(row.cost_usd),
        sa.func.avg(row.cost_usd),
    ).where(row.provider == provider, row.model == model)
    with db.read() as session:
        answers, tokens, priced, cost = session.execute(query).one()
    if not answers:
        return None
    return float(tokens), float(cost) if priced == answers else None
