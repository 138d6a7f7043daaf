"""Shares of a run's budget: each session's row says what it has spent and what it holds, and their sum is kept.

Whoever changes a row holds the lock of the run's row (on SQLite, the one writer's lock), in a transaction of its own
that takes no other lock: no two processes can wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.core.errors import StateConflict
from thresher.engine.budget import Budget, Unit
from thresher.engine.shares import Asked, Drawn
from thresher.engine.work import AttemptStatus, ItemStatus
from thresher.persistence.repositories.run_requests import unknown_run
from thresher.persistence.repositories.statements import ATTEMPTS, ITEMS, RUNS
from thresher.persistence.tables import BudgetShareRow

SHARES: Final[sa.Table] = sa.Table(BudgetShareRow.__tablename__, BudgetShareRow.metadata)
_share, _attempt, _item, _run = SHARES.c, ATTEMPTS.c, ITEMS.c, RUNS.c

_USD_NOISE = 10**6  # atoms, a millionth of a dollar: what sums of floating-point numbers may differ by
_LARGEST = 2**62  # atoms: what the columns hold, nine million dollars

RENEW_SHARE: Final = (
    SHARES.update()
    .where(_share.owner == sa.bindparam("owner"), _share.lease_until.is_not(None))
    .values(lease_until=sa.bindparam("until"))
)


@dataclass(frozen=True, slots=True)
class _Share:
    owner: str
    unit: str
    spent: int
    held: int
    lease_until: datetime | None


def owners(session: Session, run_id: str) -> Sequence[str]:
    """Who has a share of a run's budget that is not closed."""
    query = sa.select(_share.owner).where(_share.run_id == run_id, _share.lease_until.is_not(None))
    return session.scalars(query).all()


def open_share(session: Session, run_id: str, owner: str, budget: Budget, until: datetime) -> int:
    """Opens the share of a session; returns what it begins with as spent (see ``engine.shares.ShareStore``).

    Raises:
        StateConflict: others are at work that count in another unit, or keep no budget.
    """
    _locked_budget(session, run_id)
    shares = _shares(session, run_id)
    own = [share.spent for share in shares if share.owner == owner]
    if own:  # said before, and the answer was lost
        return own[0]
    spent = 0
    if any(share.lease_until is not None for share in shares):
        _check_unit(shares, run_id, budget)
    else:
        _check_nobody_else(session, run_id, [*(share.owner for share in shares), owner])
        spent = max(_stored(session, run_id, budget.unit), sum(share.spent for share in shares))
        _delete(session, run_id)
    row = {"run_id": run_id, "owner": owner, "unit": budget.unit.value, "spent": spent, "held": 0}
    session.connection().execute(SHARES.insert(), {**row, "lease_until": until})
    return spent


def draw(  # noqa: PLR0913 # a share, what is asked of it, and when
    session: Session, run_id: str, owner: str, asked: Asked, *, now: datetime, until: datetime
) -> Drawn | None:
    """Takes more for a share, or gives back; None where there is no such share any more."""
    budget = _locked_budget(session, run_id)
    shares = {share.owner: share for share in _shares(session, run_id)}
    own = shares.pop(owner, None)
    if own is None:
        return None
    total = _atoms(budget, Unit(own.unit))
    spent = asked.spent + sum(share.spent for share in shares.values())
    free = total - spent - asked.reserved - sum(share.held for share in shares.values())
    granted = 0 if asked.least > free else max(asked.least, min(free // 4, asked.most))
    _write(session, run_id, owner, spent=asked.spent, held=asked.reserved + granted, lease_until=until)
    elsewhere = sum(
        share.held for share in shares.values() if share.lease_until is not None and share.lease_until > now
    )
    return Drawn(granted, None if budget is None else total, spent, free, elsewhere)


def close_share(session: Session, run_id: str, owner: str, spent: int) -> None:
    """Ends a share: what it held beyond ``spent`` is free again."""
    _locked_budget(session, run_id)
    _write(session, run_id, owner, spent=spent, held=0, lease_until=None)
    _settle(session, run_id)


def close_lost(session: Session, run_id: str, dead: Sequence[str], now: datetime, *, but: str = "") -> None:
    """Closes the shares of dead owners, and those whose lease has expired, ``but`` not that of one who is alive.

    All that they held counts as spent.
    """
    _locked_budget(session, run_id)
    is_over = (_share.lease_until <= now) | _share.owner.in_(dead)
    is_lost = _share.lease_until.is_not(None) & (_share.owner != but) & is_over
    close = SHARES.update().where(_share.run_id == run_id, is_lost)
    values = {"spent": _share.spent + _share.held, "held": 0, "lease_until": None}
    if session.connection().execute(close.values(values)).rowcount:
        _settle(session, run_id)


def _settle(session: Session, run_id: str) -> None:
    """After the last share was closed: what no attempt tells of goes to one, and the attempts are the truth again."""
    shares = _shares(session, run_id)
    if not shares or any(share.lease_until is not None for share in shares):
        return
    unit = Unit(shares[0].unit)
    untold = sum(share.spent for share in shares) - _stored(session, run_id, unit)
    if untold <= (_USD_NOISE if unit is Unit.USD else 0) or _added_to_an_attempt(session, run_id, unit, untold):
        _delete(session, run_id)


def _added_to_an_attempt(session: Session, run_id: str, unit: Unit, atoms: int) -> bool:
    """To the newest that was lost, else to the newest; False where there is none."""
    is_lost = sa.case((_attempt.status == AttemptStatus.LOST.value, 1), else_=0)
    newest = sa.select(_attempt.id).where(_attempt.run_id == run_id).order_by(is_lost.desc(), _attempt.id.desc())
    column, amount = ("unsettled_tokens", atoms) if unit is Unit.TOKENS else ("unsettled_cost_usd", _dollars(atoms))
    added = ATTEMPTS.update().where(_attempt.id == newest.limit(1).scalar_subquery())
    values = {column: _attempt[column] + amount}
    return session.connection().execute(added.values(values)).rowcount == 1


def _stored(session: Session, run_id: str, unit: Unit) -> int:
    """What the attempts tell, in atoms: as far as it is known."""
    columns: tuple[sa.ColumnElement[Any], ...] = (_attempt.cost_usd, _attempt.unsettled_cost_usd)
    if unit is Unit.TOKENS:
        columns = (_attempt.prompt_tokens, _attempt.completion_tokens, _attempt.unsettled_tokens)
    sums = [sa.func.coalesce(sa.func.sum(column), 0) for column in columns]
    row = session.connection().execute(sa.select(*sums).where(_attempt.run_id == run_id)).one()
    return Budget.atoms_in(unit, sum(row))


def _dollars(atoms: int) -> float:
    return atoms / Budget.atoms_in(Unit.USD, 1)


def _atoms(budget: Budget | None, unit: Unit) -> int:
    """What the run's budget, as it stands now, is in the unit of its shares."""
    if budget is None:
        return _LARGEST
    return min(budget.atoms, _LARGEST) if budget.unit is unit else 0


def _locked_budget(session: Session, run_id: str) -> Budget | None:
    """The run's budget; nobody else changes it or its shares until the transaction ends.

    Raises:
        NotFound: no run has this identifier.
    """
    query = sa.select(_run.budget).where(_run.id == run_id).with_for_update(key_share=True)
    row = session.connection().execute(query).one_or_none()
    if row is None:
        raise unknown_run(run_id)
    return None if row.budget is None else Budget.parse(row.budget)


def _shares(session: Session, run_id: str) -> Sequence[_Share]:
    query = sa.select(_share.owner, _share.unit, _share.spent, _share.held, _share.lease_until)
    return [_Share(*row) for row in session.connection().execute(query.where(_share.run_id == run_id))]


def _check_unit(shares: Sequence[_Share], run_id: str, budget: Budget) -> None:
    others = {share.unit for share in shares}
    if others != {budget.unit.value}:
        raise StateConflict(
            f"Run {run_id} is being worked on by a process that keeps a budget in {', '.join(others)}, not in "
            f"{budget.unit}."
        ).with_hint(f"Wait until `thresher pause {run_id}` says that it is paused, then resume it.")


def _check_nobody_else(session: Session, run_id: str, known: Sequence[str]) -> None:
    """Such a one began without a budget, or has just woken up and has not seen yet that it was held for dead."""
    running = (_item.run_id == run_id) & (_item.status == ItemStatus.RUNNING.value)
    query = sa.select(_item.id).where(running, _item.lease_owner.not_in(known)).limit(1)
    if session.connection().execute(query).first() is not None:
        raise StateConflict(f"Run {run_id} is being worked on by a process that does not keep its budget.").with_hint(
            f"Wait until `thresher pause {run_id}` says that it is paused, then resume it with one."
        )


def _write(session: Session, run_id: str, owner: str, **values: object) -> None:
    own = (_share.run_id == run_id) & (_share.owner == owner)
    session.connection().execute(SHARES.update().where(own).values(**values))


def _delete(session: Session, run_id: str) -> None:
    session.connection().execute(SHARES.delete().where(_share.run_id == run_id))
