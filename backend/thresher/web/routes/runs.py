"""Runs: listed, looked at while they go on, steered."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from thresher.engine.work import ENDED, RunRequest, RunStatus
from thresher.operations import runs
from thresher.operations.pictures import Picture, picture_of
from thresher.persistence.repositories.items import Chosen
from thresher.persistence.repositories.workspace_runs import Page, RunFilter, list_runs, progress_of
from thresher.web.deps import FormDep, RunDep, RunToChange, ServiceDep, Visitor, get_tickets
from thresher.web.rendering import redirect, render

router = APIRouter()

PAGE = 50  # runs
LIVE_EVERY, REST_EVERY = 1_000, 5_000  # ms between two looks at a run that goes on (news come sooner), that rests
TABS = {
    "all": frozenset[RunStatus](),
    "open": frozenset(RunStatus) - ENDED,
    "succeeded": frozenset({RunStatus.SUCCEEDED}),
    "partial or failed": frozenset({RunStatus.PARTIAL, RunStatus.FAILED}),
    "cancelled": frozenset({RunStatus.CANCELLED}),
}


@router.get("/runs")
def show_runs(
    request: Request,
    service: ServiceDep,
    visitor: Visitor,
    tab: Annotated[str, Query(max_length=40)] = "all",
    after: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """A page of the runs of the workspace, the newest first; only the list where a part of the page asks."""
    tab = tab if tab in TABS else "all"
    found = list_runs(service.db, visitor.workspace, RunFilter(TABS[tab]), Page(PAGE + 1, after))
    here = found[:PAGE]
    progress = progress_of(service.db, [run.run_id for run in here])
    context: dict[str, Any] = {
        "rows": [(run, progress[run.run_id]) for run in here],
        "tab": tab,
        "tabs": [(word, _address(tab=word)) for word in TABS],
        "cursor": after,
        "first_page": _address(tab=tab),
        "next": _address(tab=tab, after=here[-1].run_id) if len(found) > PAGE else None,
        "is_live": after is None,
        "live": _address(tab=tab),
    }
    return render(request, "_runs.html" if request.headers.get("hx-request") else "runs.html", **context)


@router.get("/runs/{run_id}")
def show_run(request: Request, service: ServiceDep, visitor: Visitor, run_id: str) -> Response:
    """A run, as it is now; only what changes where a part of the page asks."""
    picture = picture_of(service, run_id, visitor.workspace)
    template = "_run.html" if request.headers.get("hx-request") else "run.html"
    return render(request, template, **_shown(picture))


def _shown(picture: Picture) -> dict[str, Any]:
    every = (LIVE_EVERY if picture.is_live else REST_EVERY) if picture.run.status not in ENDED else None
    series = None if picture.throughput is None else asdict(picture.throughput)
    return {"picture": picture, "run": picture.run, "result": picture.result, "every": every, "series": series}


@router.get("/runs/{run_id}/news")
def follow_run(request: Request, run: RunDep, visitor: Visitor) -> Response:
    """Sends an EventSource to the events of the run, with a ticket: it can send no key, and comes here each time."""
    ticket = get_tickets(request).issue(visitor)
    return RedirectResponse(f"/api/v1/runs/{run.run_id}/events?token={ticket.token}", 307)


@router.post("/runs/{run_id}/pause")
def pause_run(request: Request, service: ServiceDep, run: RunToChange, _fields: FormDep) -> Response:
    """No further node starts."""
    return _back_to(request, runs.request(service, run, RunRequest.PAUSE).run_id)


@router.post("/runs/{run_id}/cancel")
def cancel_run(request: Request, service: ServiceDep, run: RunToChange, _fields: FormDep) -> Response:
    """Nodes in hand are finished, all others are cancelled."""
    return _back_to(request, runs.request(service, run, RunRequest.CANCEL).run_id)


@router.post("/runs/{run_id}/resume")
def resume_run(request: Request, service: ServiceDep, run: RunToChange, _fields: FormDep) -> Response:
    """Goes on."""
    return _back_to(request, runs.resume(service, run).run_id)


@router.post("/runs/{run_id}/retry")
def retry_run(request: Request, service: ServiceDep, run: RunToChange, fields: FormDep) -> Response:
    """Tries nodes again: those that are named, those of a class of error, or all that failed."""
    chosen = Chosen(tuple(fields.get("item", ())), tuple(fields.get("error_class", ())), "cancelled" in fields)
    return _back_to(request, runs.retry(service, run, chosen)[0].run_id)


@router.post("/runs/{run_id}/delete")
def delete_run(request: Request, service: ServiceDep, run: RunToChange, _fields: FormDep) -> Response:
    """Deletes a run with all that it has found."""
    runs.delete(service, run)
    return redirect(request, "/runs")


def _back_to(request: Request, run_id: str) -> Response:
    return redirect(request, f"/runs/{run_id}")


def _address(**query: str) -> str:
    return f"/runs?{urlencode(query)}"
