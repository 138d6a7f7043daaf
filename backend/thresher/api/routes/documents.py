"""Documents that are kept: looked at before a run, read by runs, deleted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from thresher.api.deps import Cursor, IntakeDep, Limit, Reader, ServiceDep, SourceDep, Writer
from thresher.api.routes.runs import shown
from thresher.api.schemas.documents import AnalysisOut, DocumentOut, EstimateOut
from thresher.api.schemas.lists import PageOf
from thresher.api.schemas.problems import responses
from thresher.api.schemas.runs import RunOut
from thresher.bootstrap import Service
from thresher.operations import documents, runs
from thresher.operations.run_options import RunOptionsIn
from thresher.operations.sources import delete_source, keep_source
from thresher.operations.uploads import Upload, received
from thresher.persistence.repositories.sources import list_sources

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "XML, plain or gzipped."}
                    },
                }
            }
        },
    }
}


@router.post(
    "/analyse",
    operation_id="analyse_upload",
    summary="Upload a document and look at it",
    response_model=AnalysisOut,
    responses=responses(413, 415),
    openapi_extra=_FORM,
)
async def analyse_upload(request: Request, service: ServiceDep, writer: Writer, intake: IntakeDep) -> dict[str, Any]:
    """Keeps the document and says what it is: its paths with counts and sizes, and what would be read of it."""
    async with received(request, intake) as upload:
        return await run_in_threadpool(_kept_and_analysed, service, writer.workspace, upload)


@router.get("/", operation_id="list_documents", summary="List documents", responses=responses())
def get_documents(service: ServiceDep, reader: Reader, limit: Limit = 50, cursor: Cursor = None) -> PageOf[DocumentOut]:
    """A page of the documents that are kept, the newest first."""
    found = list_sources(service.db, reader.workspace, limit + 1, cursor)
    following = found[limit - 1].source_id if len(found) > limit else None
    return PageOf(data=[DocumentOut.of(source) for source in found[:limit]], next=following)


@router.get("/{source_id}", operation_id="get_document", summary="Show a document", responses=responses())
def get_document(source: SourceDep) -> DocumentOut:
    """A document that is kept."""
    return DocumentOut.of(source)


@router.get(
    "/{source_id}/analysis",
    operation_id="analyse_document",
    summary="Look at a document",
    response_model=AnalysisOut,
    responses=responses(),
)
def analyse_document(service: ServiceDep, source: SourceDep) -> dict[str, Any]:
    """What the document is: its paths with counts and sizes, and what would be read of it."""
    return documents.analyse(service, source)


@router.post(
    "/{source_id}/estimate",
    operation_id="estimate_run",
    summary="Estimate a run",
    response_model=EstimateOut,
    responses=responses(),
)
def estimate_run(service: ServiceDep, source: SourceDep, options: RunOptionsIn) -> dict[str, Any]:
    """Requests, tokens, cost and time of a run with these options, before anything is sent."""
    return documents.estimate(service, source, options.options())


@router.post(
    "/{source_id}/runs",
    operation_id="create_run_of_document",
    summary="Begin a run of a document",
    status_code=202,
    responses=responses(),
)
def create_run(
    response: Response, service: ServiceDep, _writer: Writer, source: SourceDep, options: RunOptionsIn
) -> RunOut:
    """Queues a run of a document that is kept; all that takes long happens in the background."""
    run = runs.submit(service, source, options.options())
    response.headers["Location"] = f"/api/v1/runs/{run.run_id}"
    return shown(service, run)


@router.delete(
    "/{source_id}",
    operation_id="delete_document",
    summary="Delete a document",
    status_code=204,
    responses=responses(409),
)
def delete_document(service: ServiceDep, _writer: Writer, source: SourceDep) -> None:
    """Deletes a document that no run refers to."""
    delete_source(service, source)


def _kept_and_analysed(service: Service, workspace: str, upload: Upload) -> dict[str, Any]:
    source = keep_source(service, workspace, upload.document, upload.name)
    return documents.analyse(service, source, upload.name)
