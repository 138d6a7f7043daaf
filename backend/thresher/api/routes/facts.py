"""The facts of a run, streamed."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from thresher.api.deps import RunDep, ServiceDep
from thresher.api.schemas.problems import responses
from thresher.persistence.repositories.node_facts import FactFilter, Grounding, stream_facts
from thresher.workflows.discovery.fact_files import FORMATS, MEDIA_TYPES

router = APIRouter(prefix="/api/v1/runs/{run_id}", tags=["facts"])

_CONTENT = {media: {"schema": {"type": "string"}} for media in ("application/jsonl", "text/csv")}


@router.get(
    "/facts",
    operation_id="get_facts",
    summary="Read the facts of a run",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The facts, in document order.",
            "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}, **_CONTENT},
        },
        **responses(),
    },
)
def get_facts(
    service: ServiceDep,
    run: RunDep,
    format_: Annotated[Literal["json", "jsonl", "csv"], Query(alias="format")] = "json",
    path: Annotated[str | None, Query(description="Only the element at this path and what it holds.")] = None,
    node_type: Annotated[str | None, Query(alias="type", description="Only facts of this element.")] = None,
    grounded: Annotated[
        Grounding,
        Query(description="`true`: only proved values. `false`: only facts with a value that is not proved. `all`."),
    ] = Grounding.PROVED,
) -> StreamingResponse:
    """All facts, of a run that is still going on those so far; any number of them takes the same memory."""
    rows = stream_facts(service.db, run.run_id, FactFilter(node_type, path, grounded))
    name = f'attachment; filename="{run.run_id}.{format_}"'
    return StreamingResponse(
        FORMATS[format_](rows), media_type=MEDIA_TYPES[format_], headers={"Content-Disposition": name}
    )
