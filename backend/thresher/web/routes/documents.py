"""The start page, and the page of a document: what it is, what is to be read of it, what that would take."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from thresher.bootstrap import Service, make_limits
from thresher.core.config import ProcessingMode
from thresher.core.errors import BadInput
from thresher.engine.work import Priority
from thresher.operations import documents, runs
from thresher.operations.samples import keep_sample
from thresher.operations.sources import find_source, keep_source
from thresher.operations.uploads import Intake, received
from thresher.persistence.repositories.sources import Source, list_sources
from thresher.web.choices import Choices, How, indented
from thresher.web.deps import FormDep, ServiceDep, VisitDep, Visitor, Writer, check_token
from thresher.web.rendering import redirect, render

router = APIRouter()

RECENT = 5  # documents on the start page
ESTIMATED_AT_ONCE = 2_000_000  # bytes of a document up to which nobody needs to press a button for an estimate


def get_source(source_id: str, service: ServiceDep, visitor: Visitor) -> Source:
    """The document that an address names.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return find_source(service, visitor.workspace, source_id)


SourceDep = Annotated[Source, Depends(get_source)]


@router.get("/")
def show_start(request: Request, service: ServiceDep, visitor: Visitor) -> Response:
    """Where a document is dropped."""
    client = service.discovery.client
    recent = list_sources(service.db, visitor.workspace, RECENT)
    most = (visitor.key and visitor.key.max_upload_bytes) or service.settings.max_upload_bytes
    return render(request, "start.html", client=client, recent=recent, most=most)


@router.post("/documents")
async def upload_document(request: Request, service: ServiceDep, writer: Writer, visit: VisitDep) -> Response:
    """Keeps a document and shows what it is."""
    most = (writer.key and writer.key.max_upload_bytes) or service.settings.max_upload_bytes
    async with received(request, Intake(service.files, most, make_limits(service.settings))) as upload:
        check_token(request, visit, upload.fields)
        source = await run_in_threadpool(keep_source, service, writer.workspace, upload.document, upload.name)
        called = {"name": upload.name} if upload.name != source.name else {}
    return redirect(request, _address(source, **called))


@router.post("/sample")
def use_sample(request: Request, service: ServiceDep, writer: Writer, _fields: FormDep) -> Response:
    """Keeps the sample document and shows what it is."""
    return redirect(request, _address(keep_sample(service, writer.workspace)))


@router.get("/documents/{source_id}")
def show_document(
    request: Request,
    service: ServiceDep,
    source: SourceDep,
    name: Annotated[str | None, Query(max_length=255)] = None,
) -> Response:
    """What a document is, and what would be read of it."""
    analysis = documents.analyse(service, source, name)
    return _document_page(request, service, source, analysis, Choices.of_analysis(analysis, name))


@router.post("/documents/{source_id}/estimate")
def show_estimate(request: Request, service: ServiceDep, source: SourceDep, fields: FormDep) -> Response:
    """What a run with these choices would take; the part of the page alone where that was asked for."""
    choices = Choices.of_form(fields)
    found: dict[str, Any] = {"estimate": None, "refusal": None}
    try:
        found["estimate"] = documents.estimate(service, source, choices.options())
    except BadInput as error:
        found["refusal"] = str(error)
    if request.headers.get("hx-request"):
        return render(request, "_estimate.html", **found)
    analysis = documents.analyse(service, source, choices.name)
    return _document_page(request, service, source, analysis, choices, **found)


@router.post("/documents/{source_id}/runs")
def begin_run(request: Request, service: ServiceDep, writer: Writer, source: SourceDep, fields: FormDep) -> Response:
    """Begins a run and shows it."""
    choices = Choices.of_form(fields)
    try:
        run = runs.submit(
            service, find_source(service, writer.workspace, source.source_id), choices.options(), choices.name
        )
    except BadInput as error:
        analysis = documents.analyse(service, source, choices.name)
        return _document_page(request, service, source, analysis, choices, status=422, refusal=str(error))
    return redirect(request, f"/runs/{run.run_id}")


def _document_page(
    request: Request,
    service: Service,
    source: Source,
    analysis: dict[str, Any],
    choices: Choices,
    *,
    status: int = 200,
    **more: Any,  # noqa: ANN401 # what the template shows
) -> Response:
    context: dict[str, Any] = {
        "estimate": None,
        "refusal": None,
        "source": source,
        "analysis": analysis,
        "choices": choices,
        "rows": tuple(indented(analysis["paths"], choices.taken)),
        "no_how": How(),
        "client": service.discovery.client,
        "modes": [mode.value for mode in ProcessingMode if mode is not ProcessingMode.AUTO],
        "priorities": [priority.label for priority in Priority],
        "is_estimated_at_once": source.size_bytes <= ESTIMATED_AT_ONCE,
    }
    return render(request, "document.html", status=status, **{**context, **more})


def _address(source: Source, **query: str) -> str:
    return f"/documents/{source.source_id}" + (f"?{urlencode(query)}" if query else "")
