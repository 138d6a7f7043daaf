"""The list of runs."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from thresher.engine.work import ENDED, RunStatus
from thresher.persistence.repositories.workspace_runs import Page, RunFilter, list_runs, progress_of
from thresher.web.deps import ServiceDep, Visitor
from thresher.web.rendering import render

router = APIRouter()

PAGE = 50  # runs
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


def _address(**query: str) -> str:
    return f"/runs?{urlencode(query)}"
