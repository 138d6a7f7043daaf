"""Runs: begun by uploading a document, listed, looked at, steered, deleted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from thresher.api.deps import Cursor, IntakeDep, Limit, Reader, RunDep, RunToChange, ServiceDep, Writer
from thresher.api.schemas.lists import PageOf
from thresher.api.schemas.problems import responses
from thresher.api.schemas.runs import ResumeIn, RetriedOut, RetryIn, RunOut, RunsQuery
from thresher.api.waiting import wait_for_end
from thresher.bootstrap import Service
from thresher.core.errors import BadInput
from thresher.engine.work import ENDED, Run, RunRequest, RunStatus
from thresher.operations import runs
from thresher.operations.run_options import RunOptionsIn
from thresher.operations.sources import keep_source, use_source
from thresher.operations.uploads import Upload, received
from thresher.persistence.repositories.items import Chosen
from thresher.persistence.repositories.workspace_runs import Page, cursor_of, list_runs, progress_of
from thresher.workflows.discovery.discovery_workflow import KIND

router = APIRouter(prefix="/api/v1/runs", tags=["runs"])

LONGEST_WAIT = 3600.0  # seconds
_LISTS = ("paths", "nodes", "notify")

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "oneOf": [{"required": ["file"]}, {"required": ["source"]}],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "XML, plain or gzipped."},
                        "source": {
                            "type": "string",
                            "description": "Instead of `file`: the `source_id` of a document that is kept.",
                        },
                        "options": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": {"$ref": "#/components/schemas/RunOptionsIn"},
                            "description": "All options as one JSON object, instead of a field for each.",
                        },
                        "paths": {"type": "array", "items": {"type": "string"}},
                        "stored_nodes": {"type": "boolean", "default": True},
                        "limit": {"type": "integer", "minimum": 1},
                        "mode": {"type": "string", "enum": ["auto", "parallel", "batch", "sequential"]},
                        "priority": {"type": "string", "enum": ["immediate", "normal", "low"]},
                        "notify": {"type": "array", "items": {"type": "string"}},
                        "budget": {"type": "string", "examples": ["$0.50", "200ktokens"]},
                    },
                },
                "encoding": {"file": {"contentType": "application/xml, text/xml, application/gzip"}},
            }
        },
    }
}


@router.post(
    "/",
    operation_id="create_run",
    summary="Upload a document and begin a run",
    status_code=202,
    response_model=RunOut,
    responses={
        200: {"model": RunOut, "description": "The run has come to rest within `wait`."},
        **responses(413, 415),
    },
    openapi_extra=_FORM,
)
async def create_run(
    request: Request,
    response: Response,
    service: ServiceDep,
    writer: Writer,
    intake: IntakeDep,
    kind: Annotated[str, Query(description="What is to be done: `discovery`.")] = KIND,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the end of the run.")] = 0,
) -> RunOut:
    """Stores the document and queues a run of it; all that takes long happens in the background."""
    runs.check_kind(kind)
    async with received(request, intake, instead="source") as upload:
        source_id = source_of(upload)
        options = options_of(upload)
        run = await run_in_threadpool(_begin, service, writer.workspace, upload, source_id, options)
    if wait:
        run = await wait_for_end(service, run, wait)
    if wait and run.status in ENDED | {RunStatus.PAUSED}:
        response.status_code = 200
    response.headers["Location"] = f"/api/v1/runs/{run.run_id}"
    return await run_in_threadpool(shown, service, run)


@router.get("/", operation_id="list_runs", summary="List runs", responses=responses())
def get_runs(
    service: ServiceDep,
    reader: Reader,
    asked: Annotated[RunsQuery, Query()],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOf[RunOut]:
    """A page of the runs of the workspace."""
    page = Page(limit + 1, cursor, newest_first=asked.sort.startswith("-"), order=asked.order)
    found = list_runs(service.db, reader.workspace, asked.filter(), page)
    here = found[:limit]
    progress = progress_of(service.db, [run.run_id for run in here])
    following = cursor_of(here[-1], asked.order) if len(found) > limit else None
    return PageOf(data=[RunOut.of(run, progress[run.run_id]) for run in here], next=following)


@router.get("/{run_id}", operation_id="get_run", summary="Show a run", responses=responses())
def get_run(service: ServiceDep, run: RunDep) -> RunOut:
    """A run, as it is now."""
    return shown(service, run)


@router.get("/{run_id}/report", operation_id="get_run_report", summary="Report on a run", responses=responses())
def get_report(service: ServiceDep, run: RunDep) -> dict[str, Any]:
    """What the run came to: counts, cost, speed-up, errors by class; as `thresher show --json` prints it."""
    return runs.result(service, run)


@router.post("/{run_id}/pause", operation_id="pause_run", summary="Pause a run", responses=responses(409))
def pause_run(service: ServiceDep, run: RunToChange) -> RunOut:
    """No further node starts; those in hand are finished. `requested` stays until the run is resumed."""
    return shown(service, runs.request(service, run, RunRequest.PAUSE))


@router.post("/{run_id}/cancel", operation_id="cancel_run", summary="Cancel a run", responses=responses(409))
def cancel_run(service: ServiceDep, run: RunToChange) -> RunOut:
    """Nodes in hand are finished and kept, all others are cancelled."""
    return shown(service, runs.request(service, run, RunRequest.CANCEL))


@router.post("/{run_id}/resume", operation_id="resume_run", summary="Go on with a run", responses=responses(409))
def resume_run(service: ServiceDep, run: RunToChange, how: ResumeIn | None = None) -> RunOut:
    """Goes on with a run that was paused, failed as a whole, or was left by a process that died."""
    return shown(service, runs.resume(service, run, how.change() if how else None))


@router.post("/{run_id}/retry", operation_id="retry_run", summary="Try failed nodes again", responses=responses(409))
def retry_run(service: ServiceDep, run: RunToChange, which: RetryIn) -> RetriedOut:
    """Tries dead nodes again, with fresh retries: some, those of one class of error, or all."""
    chosen = Chosen(tuple(which.items), tuple(which.error_classes), which.cancelled)
    run, retried = runs.retry(service, run, chosen)
    return RetriedOut(retried=retried, run=shown(service, run))


@router.delete(
    "/{run_id}", operation_id="delete_run", summary="Delete a run", status_code=204, responses=responses(409)
)
def delete_run(service: ServiceDep, run: RunToChange) -> None:
    """Deletes a run with its nodes, attempts and facts; its document goes with the last run that has it."""
    runs.delete(service, run)


def shown(service: Service, run: Run) -> RunOut:
    """A run, and how far it is."""
    return RunOut.of(run, progress_of(service.db, [run.run_id])[run.run_id])


def options_of(upload: Upload) -> RunOptionsIn:
    """The options of a form: each in a field of its own, or all of them as JSON in one.

    Raises:
        RequestValidationError: one of them is none, or both ways are used.
    """
    fields = dict(upload.fields)
    as_json = fields.pop("options", None)
    try:
        if as_json is None:
            return RunOptionsIn.model_validate(
                {name: values if name in _LISTS else values[-1] for name, values in fields.items() if any(values)}
            )
        if fields:
            raise BadInput("Give the options in fields of their own, or all of them in `options`, not both.")
        return RunOptionsIn.model_validate_json(as_json[-1])
    except ValidationError as error:
        places = [{**one, "loc": ("form", *one["loc"])} for one in error.errors(include_context=False)]
        raise RequestValidationError(places) from error


def source_of(upload: Upload) -> str | None:
    """The document that a form names instead of sending one; None: it has sent one.

    Raises:
        BadInput: it does both.
    """
    named = upload.fields.pop("source", None)
    if named is not None and upload.parts:
        raise BadInput("Send a document as `file`, or name one that is kept as `source`, not both.")
    return None if named is None else named[-1]


def _begin(service: Service, workspace: str, upload: Upload, source_id: str | None, options: RunOptionsIn) -> Run:
    if source_id is not None:
        return runs.submit(service, use_source(service, workspace, source_id), options.options())
    source = keep_source(service, workspace, upload.document, upload.name)
    return runs.submit(service, source, options.options(), upload.name)
