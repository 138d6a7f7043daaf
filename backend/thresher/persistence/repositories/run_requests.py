"""What a run is asked to do, and the doing of it: the columns that processes speak to each other by."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from thresher.core.errors import NotFound, StateConflict
from thresher.engine.work import ENDED, ItemStatus, RunRequest, RunStatus
from thresher.persistence.repositories.statements import ITEMS, RUNS

_run, _item = RUNS.c, ITEMS.c


def ask(session: Session, run_id: str, request: RunRequest, now: datetime) -> None:
    """Asks a run to pause or to be cancelled, and does at once what needs nobody else.

    Raises:
        StateConflict: it has ended, or a request to pause comes after one to cancel.
    """
    row = _locked(session, run_id)
    status, earlier = RunStatus(row.status), row.requested
    if status in ENDED:
        raise StateConflict(f"Run {run_id} has ended already: {status}.")
    if earlier == RunRequest.CANCEL and request is RunRequest.PAUSE:
        raise StateConflict(f"Run {run_id} is being cancelled: it cannot be paused any more.")
    _write(session, run_id, requested=request.value)
    settle(session, run_id, now)


def settle(session: Session, run_id: str, now: datetime) -> RunRequest | None:
    """Does what the run is asked to do, as far as nobody's items are in the way; returns what that is.

    The run's row is locked first, and no row of an item is waited for: whoever holds both takes them in the other
    order. An item that is being claimed just now is passed over; the session that gets it settles at its end.
    """
    row = _locked(session, run_id)
    if row.requested is None:
        return None
    request = RunRequest(row.requested)
    swept = _cancel_pending(session, run_id, now) if request is RunRequest.CANCEL else 0
    status = RunStatus(row.status)
    has_more = swept > 0 or not row.planning_complete
    if _is_due(request, status, has_more=has_more) and not _is_held(session, run_id):
        is_cancelled = request is RunRequest.CANCEL
        settled = RunStatus.CANCELLED if is_cancelled else RunStatus.PAUSED
        _write(session, run_id, status=settled.value, finished_at=now if is_cancelled else None)
    return request


def withdraw(session: Session, run_id: str, *, is_reopened: bool = False) -> None:
    """Takes back what was asked of a run; with ``is_reopened`` also of a cancelled one, which is then paused.

    Raises:
        StateConflict: the run is cancelled, or is being cancelled by a process that is not done with its items.
    """
    row = _locked(session, run_id)
    is_cancelled = row.status == RunStatus.CANCELLED.value
    if row.requested == RunRequest.CANCEL and not is_cancelled:
        hint = f"`thresher cancel {run_id}` waits for that."
        raise StateConflict(f"Run {run_id} is being cancelled: wait until it is.").with_hint(hint)
    if is_cancelled and not is_reopened:
        raise _is_cancelled(run_id)
    reopened = {"status": RunStatus.PAUSED.value, "finished_at": None} if is_cancelled else {}
    _write(session, run_id, requested=None, **reopened)


def require_not_cancelled(session: Session, run_id: str) -> None:
    """Locks the row of a run that is to go on.

    Raises:
        StateConflict: it is cancelled.
    """
    if _locked(session, run_id).status == RunStatus.CANCELLED.value:
        raise _is_cancelled(run_id)


def _is_cancelled(run_id: str) -> StateConflict:
    hint = f"`thresher retry {run_id} --cancelled` brings its cancelled nodes back."
    return StateConflict(f"Run {run_id} is cancelled.").with_hint(hint)


def unknown_run(run_id: str) -> NotFound:
    """The error for an identifier that no run has."""
    return NotFound(f"No run is named {run_id!r}.").with_hint("`thresher runs` lists them.")


def _is_due(request: RunRequest, status: RunStatus, *, has_more: bool) -> bool:
    """Whether the run's state is still to follow the request."""
    if status is RunStatus.FAILED:  # as a whole, while it was asked: what is left of it is cancelled too
        return request is RunRequest.CANCEL and has_more
    if request is RunRequest.PAUSE:
        return status in {RunStatus.PENDING, RunStatus.RUNNING}
    return status not in ENDED


def _locked(session: Session, run_id: str) -> sa.Row[str, str | None, bool]:
    """The run's row, which nobody else changes until the transaction ends; its items may still refer to it.

    Raises:
        NotFound: no run has this identifier.
    """
    query = sa.select(_run.status, _run.requested, _run.planning_complete).where(_run.id == run_id)
    row = session.connection().execute(query.with_for_update(key_share=True)).one_or_none()
    if row is None:
        raise unknown_run(run_id)
    return row


def _is_held(session: Session, run_id: str) -> bool:
    running = (_item.run_id == run_id) & (_item.status == ItemStatus.RUNNING.value)
    return session.connection().execute(sa.select(_item.id).where(running).limit(1)).first() is not None


def _cancel_pending(session: Session, run_id: str, now: datetime) -> int:
    """Cancelled items keep their payload: they may be brought back."""
    pending = sa.select(_item.id).where(_item.run_id == run_id, _item.status == ItemStatus.PENDING.value)
    cancel = (
        ITEMS.update()
        .where(_item.id.in_(pending.with_for_update(skip_locked=True)))
        .values(status=ItemStatus.CANCELLED.value, next_attempt_at=None, finished_at=now)
    )
    return session.connection().execute(cancel).rowcount


def _write(session: Session, run_id: str, **values: object) -> None:
    session.connection().execute(RUNS.update().where(_run.id == run_id).values(**values))
