"""Batches: many documents in one call, each read by a run of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from thresher.api.bodies import text_of
from thresher.api.deps import BatchDep, Cursor, IntakeDep, Limit, Reader, ServiceDep, Writer
from thresher.api.schemas.batches import BatchDocumentOut, BatchIn, BatchOut, RetriedBatchOut, RetryBatchIn
from thresher.api.schemas.lists import PageOf
from thresher.api.schemas.problems import responses
from thresher.bootstrap import Service
from thresher.core.errors import BadInput
from thresher.engine.work import RunRequest
from thresher.operations import batches
from thresher.operations.batches import MOST_DOCUMENTS, RESULT_FORMATS, BatchWish, kept_document
from thresher.operations.uploads import Upload, received
from thresher.persistence.repositories import batches as repository
from thresher.persistence.repositories.batches import Batch
from thresher.persistence.repositories.node_facts import FactFilter, Grounding
from thresher.persistence.repositories.workspace_runs import Page
from thresher.workflows.discovery.fact_files import MEDIA_TYPES

router = APIRouter(prefix="/api/v1/batch", tags=["batches"])

LARGEST_BODY = 8 * 1024 * 1024  # bytes of JSON
_CONTENT = {media: {"schema": {"type": "string"}} for media in ("application/jsonl", "text/csv")}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/BatchIn"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "XML, plain or gzipped, 1 to 1,000 times.",
                        },
                        "options": {"type": "string", "contentMediaType": "application/json"},
                        "name": {"type": "string"},
                        "template": {"type": "string"},
                    },
                }
            },
        },
    }
}


@router.post(
    "",
    operation_id="create_batch",
    summary="Begin a batch",
    status_code=202,
    response_model=BatchOut,
    responses=responses(413, 415),
    openapi_extra=_BODY,
)
async def create_batch(
    request: Request, response: Response, service: ServiceDep, writer: Writer, intake: IntakeDep
) -> BatchOut:
    """Takes 1 to 1,000 documents: files of a form, or (as JSON) addresses, which are fetched in the background."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with received(request, replace(intake, most=MOST_DOCUMENTS)) as upload:
            batch = await run_in_threadpool(_begin_with_files, service, writer.workspace, upload)
    else:
        wanted = _parsed(await text_of(request, LARGEST_BODY))
        most = None if writer.key is None else writer.key.max_upload_bytes
        batch = await run_in_threadpool(_begin, service, BatchWish(writer.workspace, (), max_bytes=most), wanted)
    response.headers["Location"] = f"{router.prefix}/{batch.batch_id}"
    return await run_in_threadpool(shown, service, batch)


@router.get("", operation_id="list_batches", summary="List batches", responses=responses())
def get_batches(service: ServiceDep, reader: Reader, limit: Limit = 50, cursor: Cursor = None) -> PageOf[BatchOut]:
    """A page of the batches of the workspace, the newest first."""
    found = repository.list_batches(service.db, reader.workspace, Page(limit + 1, cursor))
    here = found[:limit]
    progress = repository.progress_of_batches(service.db, [batch.batch_id for batch in here])
    following = here[-1].batch_id if len(found) > limit else None
    return PageOf(data=[BatchOut.of(batch, progress[batch.batch_id]) for batch in here], next=following)


@router.get("/{batch_id}", operation_id="get_batch", summary="Show a batch", responses=responses())
def get_batch(service: ServiceDep, batch: BatchDep) -> BatchOut:
    """A batch, as it is now."""
    return shown(service, batch)


@router.get("/{batch_id}/status", operation_id="get_batch_status", summary="Show a batch", responses=responses())
def get_status(service: ServiceDep, batch: BatchDep) -> BatchOut:
    """The same as without `/status`."""
    return shown(service, batch)


@router.get(
    "/{batch_id}/documents",
    operation_id="list_batch_documents",
    summary="List the documents of a batch",
    responses=responses(),
)
def get_documents(
    service: ServiceDep,
    batch: BatchDep,
    status: Annotated[list[str], Query(description="Only documents that are so far.", max_length=20)] = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOf[BatchDocumentOut]:
    """A page of the documents, in the order in which they were given."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise BadInput("This cursor is none of this list: take `next` of the page before.")
    found = repository.list_documents(service.db, batch.batch_id, limit + 1, int(cursor or 0), status)
    following = str(found[limit - 1].number) if len(found) > limit else None
    return PageOf(data=[BatchDocumentOut.of(document) for document in found[:limit]], next=following)


@router.get(
    "/{batch_id}/results",
    operation_id="get_batch_results",
    summary="Read the facts of a batch",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The facts of all runs, in the order of the documents.",
            "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}, **_CONTENT},
        },
        **responses(),
    },
)
def get_results(
    service: ServiceDep,
    batch: BatchDep,
    format_: Annotated[Literal["json", "jsonl", "csv"], Query(alias="format")] = "json",
    path: Annotated[str | None, Query(description="Only the element at this path and what it holds.")] = None,
    node_type: Annotated[str | None, Query(alias="type", description="Only facts of this element.")] = None,
    grounded: Annotated[Grounding, Query(description="As for the facts of a run.")] = Grounding.PROVED,
) -> StreamingResponse:
    """All facts so far, each with its document; any number of them takes the same memory."""
    rows = batches.stream_results(service, batch, FactFilter(node_type, path, grounded))
    name = f'attachment; filename="{batch.batch_id}.{format_}"'
    return StreamingResponse(
        RESULT_FORMATS[format_](rows), media_type=MEDIA_TYPES[format_], headers={"Content-Disposition": name}
    )


@router.post("/{batch_id}/pause", operation_id="pause_batch", summary="Pause a batch", responses=responses(409))
def pause_batch(service: ServiceDep, _writer: Writer, batch: BatchDep) -> BatchOut:
    """No further document and no further node starts; nodes in hand are finished."""
    return shown(service, batches.request(service, batch, RunRequest.PAUSE))


@router.post("/{batch_id}/cancel", operation_id="cancel_batch", summary="Cancel a batch", responses=responses(409))
def cancel_batch(service: ServiceDep, _writer: Writer, batch: BatchDep) -> BatchOut:
    """Nodes in hand are finished and kept, all else is cancelled."""
    return shown(service, batches.request(service, batch, RunRequest.CANCEL))


@router.post("/{batch_id}/resume", operation_id="resume_batch", summary="Go on with a batch", responses=responses(409))
def resume_batch(service: ServiceDep, _writer: Writer, batch: BatchDep) -> BatchOut:
    """Goes on with a batch that was paused, and its runs."""
    return shown(service, batches.resume(service, batch))


@router.post(
    "/{batch_id}/retry", operation_id="retry_batch", summary="Try again what has failed", responses=responses(409)
)
def retry_batch(service: ServiceDep, _writer: Writer, batch: BatchDep, which: RetryBatchIn) -> RetriedBatchOut:
    """Tries again documents that could not be fetched, runs that failed, and nodes that did."""
    batch, retried = batches.retry(service, batch, cancelled=which.cancelled)
    return RetriedBatchOut(retried=retried, batch=shown(service, batch))


@router.delete(
    "/{batch_id}", operation_id="delete_batch", summary="Delete a batch", status_code=204, responses=responses(409)
)
def delete_batch(service: ServiceDep, _writer: Writer, batch: BatchDep) -> None:
    """Deletes a batch that has ended with its runs and their facts."""
    batches.delete(service, batch)


def shown(service: Service, batch: Batch) -> BatchOut:
    """A batch, and how far it is."""
    return BatchOut.of(batch, repository.progress_of_batches(service.db, [batch.batch_id])[batch.batch_id])


def _parsed(text: str) -> BatchIn:
    try:
        return BatchIn.model_validate_json(text)
    except ValidationError as error:
        places = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_context=False)]
        raise RequestValidationError(places) from error


def _begin(service: Service, wish: BatchWish, wanted: BatchIn) -> Batch:
    documents = wish.documents or wanted.new_documents()
    named = replace(
        wish, documents=documents, name=wanted.name, template=wanted.template, options=wanted.options.to_json()
    )
    return batches.submit(service, named)


def _begin_with_files(service: Service, workspace: str, upload: Upload) -> Batch:
    fields: dict[str, Any] = {name: values[-1] for name, values in upload.fields.items() if any(values)}
    try:
        wanted = _parsed(json.dumps({**fields, "options": json.loads(fields.get("options", "{}"))}))
    except ValueError as error:
        if isinstance(error, RequestValidationError):
            raise
        raise BadInput("The field `options` is no JSON.") from error
    if wanted.urls or wanted.documents:
        raise BadInput("A batch has files, or addresses, not both: send two.")
    documents = [kept_document(service, workspace, part) for part in upload.parts]
    return _begin(service, BatchWish(workspace, documents), wanted)
