"""Pausing and cancelling a run, whichever process works on it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from thresher.bootstrap import make_runner_options, open_discovery
from thresher.cli.failures import ExitCode, say
from thresher.core.config import Settings
from thresher.core.errors import StateConflict
from thresher.engine.ownership import is_dead
from thresher.engine.work import ENDED, Counts, Run, RunRequest, RunStatus
from thresher.persistence.repositories.store import SqlStore

LOOK_EVERY = 0.1  # seconds
DONE = {RunRequest.PAUSE: RunStatus.PAUSED, RunRequest.CANCEL: RunStatus.CANCELLED}


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long to wait until a request has taken effect, in seconds; 0: not at all."""

    longest: float
    as_json: bool = False


def ask(settings: Settings, run_id: str, request: RunRequest, waiting: Waiting) -> ExitCode:
    """Asks a run to pause or to be cancelled, waits until it is, and says what became of it.

    Raises:
        NotFound: no such run.
        StateConflict: it has ended already, or ended before it could do so.
    """
    with open_discovery(settings) as discovery:
        store, max_losses = discovery.store, make_runner_options(settings).max_losses
        run = store.find_run(run_id)
        store.recover(run.run_id, is_dead, max_losses)
        run = store.request(run.run_id, request)
        if waiting.longest > 0 and not _has_effect(store, run, request):
            run = _wait(store, run, request, waiting, max_losses)
        return _report(store, run, request, waiting)


def _has_effect(store: SqlStore, run: Run, request: RunRequest) -> bool:
    return run.status is DONE[request] and not store.leases(run.run_id)


def _wait(store: SqlStore, run: Run, request: RunRequest, waiting: Waiting, max_losses: int) -> Run:
    """Looks at the rows until the request has taken effect; a process that dies meanwhile holds nothing up."""
    say(f"Waiting up to {waiting.longest:g} s until the nodes in hand are done; Ctrl-C ends only the waiting.")
    until = time.monotonic() + waiting.longest
    while not (_has_effect(store, run, request) or run.status in ENDED) and time.monotonic() < until:
        time.sleep(LOOK_EVERY)
        store.recover(run.run_id, is_dead, max_losses)
        store.settle(run.run_id)
        run = store.get_run(run.run_id)
    return run


def _report(store: SqlStore, run: Run, request: RunRequest, waiting: Waiting) -> ExitCode:
    if run.status in ENDED and run.status is not DONE[request]:
        raise StateConflict(f"Run {run.run_id} ended before it could be {DONE[request]}: {run.status}.")
    counts = store.counts(run.run_id)
    has_effect = _has_effect(store, run, request)
    if waiting.as_json:
        sys.stdout.write(json.dumps(state_of(run, counts)) + "\n")
    else:
        sys.stdout.write(_sentence(run, counts, request, has_effect=has_effect) + "\n")
    return ExitCode.SUCCEEDED if has_effect or not waiting.longest else ExitCode.FAILED


def state_of(run: Run, counts: Counts) -> dict[str, object]:
    """Where a run stands, for programs."""
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "requested": run.requested.value if run.requested else None,
        "nodes_total": counts.total,
        "nodes_done": counts.finished - counts.cancelled,
        "nodes_cancelled": counts.cancelled,
        "nodes_open": counts.open,
        "nodes_in_hand": counts.running,
    }


def _sentence(run: Run, counts: Counts, request: RunRequest, *, has_effect: bool) -> str:
    run_id = run.run_id
    if not has_effect:
        state = f"asked to {request}, and not {DONE[request]} yet: {counts.running} nodes are in hand"
        return f"Run {run_id} is {state}. No further node starts; `thresher watch {run_id}` shows when they are done."
    done = f"{counts.finished - counts.cancelled:,} of {counts.total:,} nodes are done"
    if request is RunRequest.PAUSE:
        return f"Run {run_id} is paused: {done}. `thresher resume {run_id}` goes on."
    hint = f"`thresher retry {run_id} --cancelled` brings what is left back."
    return f"Run {run_id} is cancelled: {done}, {counts.cancelled:,} are cancelled. {hint}"
