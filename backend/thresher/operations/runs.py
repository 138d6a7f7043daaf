"""Runs that servers work on: begun, looked at, stopped, taken up again, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thresher.bootstrap import Service, choose_mode, make_limits, make_runner_options
from thresher.core.config import ProcessingMode
from thresher.core.errors import BadInput, NotFound, StateConflict
from thresher.engine.budget import Budget
from thresher.engine.ownership import is_dead
from thresher.engine.reports import report_of
from thresher.engine.work import NewRun, Priority, Run, RunRequest, RunStatus
from thresher.operations.budgets import BudgetChange, check_price, check_spent
from thresher.operations.sources import drop_source_without_runs
from thresher.persistence.repositories.batches import reopen_batch_of
from thresher.persistence.repositories.deliveries import check_channels, create_run_to_tell_of, tell_again_of_run
from thresher.persistence.repositories.items import Chosen, count_chosen, retry_items
from thresher.persistence.repositories.sources import Source
from thresher.persistence.repositories.workspace_runs import delete_run
from thresher.workflows.discovery import DiscoveryRequest, DiscoveryWorkflow, NodeConfiguration
from thresher.workflows.discovery.discovery_workflow import KIND
from thresher.workflows.discovery.report import result_of

KINDS = (KIND,)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a document is to be read. Without ``paths`` and ``nodes`` the paths are chosen from its structure.

    ``mode`` None: as the server is set. ``limit``: only the first subtrees. ``uses_stored``: the node configurations of
    the workspace hold where no ``nodes`` are given. ``notify``: names of channels that are told of the end.
    """

    paths: Sequence[str] = ()
    nodes: Sequence[NodeConfiguration] = ()
    limit: int | None = None
    mode: ProcessingMode | None = None
    priority: Priority = Priority.NORMAL
    budget: Budget | None = None
    uses_stored: bool = True
    notify: Sequence[str] = ()


def submit(service: Service, source: Source, options: RunOptions, name: str | None = None) -> Run:
    """Begins a discovery: it is stored and queued, all that takes long happens in the background.

    ``name``: what this run calls the document, where it is not what it was called first.

    Raises:
        BadConfiguration: one of the paths is none.
        NotFound: a channel that is to be told is none of the workspace.
    """
    check_channels(service.db, source.workspace, options.notify)
    new = announced(service, source, options, name)
    run = service.store.get_run(create_run_to_tell_of(service.db, service.store, new, options.notify))
    service.host.wake()  # last: what is returned is the run as it was queued
    return run


def announced(service: Service, source: Source, options: RunOptions, name: str | None = None) -> NewRun:
    """The run that is to be stored.

    Raises:
        BadConfiguration: one of the paths is none, or the budget cannot be kept.
    """
    wish = choose_mode(service.settings, given=options.mode)
    new = DiscoveryWorkflow.announce(requested(service, source, options, name), wish.at_first, wish.reason)
    client = service.discovery.client
    check_price(client, options.budget)
    return replace(
        new,
        source={**new.source, "sha256": source.sha256},
        options={**new.options, "mode": options.mode.value if options.mode else None},
        source_id=source.source_id,
        provider=client.provider,
        model=client.model,
        priority=options.priority,
        budget=options.budget,
    )


def requested(service: Service, source: Source, options: RunOptions, name: str | None = None) -> DiscoveryRequest:
    """What is wanted of a document, wherever it lies."""
    return DiscoveryRequest(
        Path(),
        options.paths,
        options.nodes,
        limits=make_limits(service.settings),
        workspace=source.workspace,
        limit=options.limit,
        name=name or source.name,
        uses_stored=options.uses_stored,
    )


def find_run(service: Service, workspace: str, run_id: str) -> Run:
    """A run of a workspace.

    Raises:
        NotFound: the workspace has none of this name, whether another one has or not.
    """
    unknown = f"No run is named {run_id!r}."
    try:
        run = service.store.get_run(run_id)
    except NotFound as error:
        raise NotFound(unknown) from error
    if run.workspace != workspace:
        raise NotFound(unknown)
    return run


def result(service: Service, run: Run) -> dict[str, Any]:
    """What a run has come to so far."""
    return result_of(service.store, service.db, report_of(service.store, run))


def request(service: Service, run: Run, wanted: RunRequest) -> Run:
    """Pauses or cancels a run, whichever process works on it: nodes in hand are finished, no other starts.

    Raises:
        StateConflict: it has ended already, or is being cancelled and was to pause.
    """
    _take_back_lost(service, run)
    return service.store.request(run.run_id, wanted)


def resume(service: Service, run: Run, change: BudgetChange | None = None) -> Run:
    """Has a server go on with a run that was paused, failed as a whole, or was left by a process that died.

    ``change``: what it may spend from now on, with what it has spent already; None: as before.

    Raises:
        BadConfiguration: the new budget cannot be kept.
        StateConflict: nothing of it is open, it is cancelled, or somebody works on it.
    """
    _take_back_lost(service, run)
    counts = service.store.counts(run.run_id)
    if run.status is RunStatus.CANCELLED:
        raise StateConflict(f"Run {run.run_id} is cancelled. Retry it with `cancelled` to bring back what is left.")
    if run.planning_complete and not counts.open:
        hint = f"Retry its {counts.dead} failed nodes." if counts.dead else "Its facts are complete."
        raise StateConflict(f"Run {run.run_id} is {run.status}: nothing is open. {hint}")
    if service.store.leases(run.run_id):
        raise StateConflict(f"Run {run.run_id} is being worked on already.")
    if change is not None:
        check_price(service.discovery.read_as(run).client, change.budget)
        check_spent(service.store, run, change.budget)
    service.store.withdraw(run.run_id)
    if change is not None:
        service.store.set_run_budget(run.run_id, change.budget)
    return _queue(service, run.run_id)


def retry(service: Service, run: Run, chosen: Chosen) -> tuple[Run, int]:
    """Has a server try dead items again (and cancelled ones, where they are meant); returns how many.

    Raises:
        NotFound: an item that is named is not there in such a state.
        StateConflict: there is none, or the run is being cancelled.
    """
    if run.status is RunStatus.CANCELLED and not chosen.cancelled:
        raise StateConflict(f"Run {run.run_id} is cancelled. Say `cancelled` to bring back what is left.")
    is_unread = run.status is RunStatus.CANCELLED and not run.planning_complete
    count = count_chosen(service.db, run.run_id, chosen)
    if not count and not is_unread:
        raise StateConflict(f"Run {run.run_id} is {run.status} and has no such node to retry.")
    retry_items(service.db, run.run_id, chosen)
    return _queue(service, run.run_id), count


def delete(service: Service, run: Run) -> None:
    """Deletes a run with all that it has found, and its document where no other run has it.

    Raises:
        StateConflict: somebody works on it.
    """
    delete_run(service.db, run.run_id)
    if run.source_id is not None:
        drop_source_without_runs(service, run.source_id)


def check_kind(kind: str) -> None:
    """Refuses a kind of run that there is not.

    Raises:
        BadInput: it is none.
    """
    if kind not in KINDS:
        raise BadInput(f"There are no runs of the kind {kind!r}; there is: {', '.join(KINDS)}.")


def _take_back_lost(service: Service, run: Run) -> None:
    service.store.recover(run.run_id, is_dead, make_runner_options(service.settings).max_losses)


def _queue(service: Service, run_id: str) -> Run:
    tell_again_of_run(service.db, run_id)
    service.queue.add(run_id)
    reopen_batch_of(service.db, run_id)  # now that it is open: before, the batch would be found ended once more
    run = service.store.get_run(run_id)
    service.host.wake()  # last: what is returned is the run as it was queued
    return run
