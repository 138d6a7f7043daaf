"""Two runs beside each other: which facts came, went and changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from thresher.bootstrap import Service
from thresher.engine.work import Run
from thresher.operations import runs
from thresher.operations.access import Principal
from thresher.operations.comparisons import FORMATS, Pair, Wanted, compare, look
from thresher.persistence.repositories.workspace_runs import Page, RunFilter, list_runs
from thresher.web.deps import ServiceDep, Visitor
from thresher.web.rendering import render
from thresher.workflows.discovery.comparison import DifferenceKind
from thresher.workflows.discovery.fact_files import MEDIA_TYPES

router = APIRouter(prefix="/compare")

OFFERED = 200  # of the newest runs
PAGE = 40  # facts that differ
VALUES_SHOWN = 8  # of a fact; the others can be opened
KINDS = {kind.value: frozenset({kind}) for kind in DifferenceKind}

RunId = Annotated[str, Query(max_length=40)]
NodeType = Annotated[str, Query(alias="type", max_length=400)]
KindOf = Annotated[Literal["", "added", "lost", "changed"], Query()]


@router.get("")
def show_comparison(  # as the address has them
    request: Request,
    service: ServiceDep,
    visitor: Visitor,
    old: RunId = "",
    new: RunId = "",
    node_type: NodeType = "",
    kind: KindOf = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    """The choice of two runs, and what differs between them when both are chosen."""
    offered = list_runs(service.db, visitor.workspace, RunFilter(), Page(OFFERED))
    later = _found(service, visitor, new)
    earlier = _found(service, visitor, old) or _suggested(service, visitor, later)
    context: dict[str, Any] = {"old": earlier, "new": later, "offered": _with(offered, earlier, later), "found": None}
    if old and new and earlier and later:
        wanted = _wanted(node_type, kind, page)
        pair = Pair(earlier, later)
        query = {"old": old, "new": new, "type": node_type, "kind": kind}
        found = look(compare(service.db, pair), wanted)
        context |= {"found": found, "pair": pair, "node_type": node_type, "kind": kind, "page": page}
        context |= {"pages": max(-(-found.matching // PAGE), 1), "address": _addresses(query)}
    return render(request, "compare.html", values_shown=VALUES_SHOWN, **context)


@router.get("/export")
def export_comparison(  # as the address has them
    service: ServiceDep,
    visitor: Visitor,
    old: RunId,
    new: RunId,
    format_: Annotated[Literal["json", "csv"], Query(alias="format")],
    node_type: NodeType = "",
    kind: KindOf = "",
) -> Response:
    """What differs as a file, as far as it is looked at, made piece by piece."""
    pair = Pair(*(runs.find_run(service, visitor.workspace, name) for name in (old, new)))
    pieces = FORMATS[format_](pair, compare(service.db, pair), _wanted(node_type, kind, 1))
    name = f'attachment; filename="{old}-{new}.{format_}"'
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[format_], headers={"Content-Disposition": name})


def _wanted(node_type: str, kind: str, page: int) -> Wanted:
    return Wanted(KINDS.get(kind, frozenset()), node_type or None, (page - 1) * PAGE, PAGE)


def _found(service: Service, visitor: Principal, run_id: str) -> Run | None:
    """The run that was chosen; None where none was.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return runs.find_run(service, visitor.workspace, run_id) if run_id else None


def _suggested(service: Service, visitor: Principal, new: Run | None) -> Run | None:
    """What a run is most likely to be compared with: the one before it of the same document."""
    if new is None or new.source_id is None:
        return None
    before = Page(1, new.run_id)
    return next(iter(list_runs(service.db, visitor.workspace, RunFilter(source_id=new.source_id), before)), None)


def _with(offered: Sequence[Run], *chosen: Run | None) -> Sequence[Run]:
    """Runs to choose from, those that are chosen among them however old they are."""
    known = {run.run_id for run in offered}
    return [*offered, *{run.run_id: run for run in chosen if run and run.run_id not in known}.values()]


def _addresses(query: Mapping[str, str]) -> Any:  # noqa: ANN401 # what the template calls
    def address(to: str = "", **changes: str | int) -> str:
        written = {name: value for name, value in {**query, **changes}.items() if value}
        return f"/compare{to}?{urlencode(written)}"

    return address
