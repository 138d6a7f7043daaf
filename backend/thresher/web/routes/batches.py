"""Batches: begun with files or addresses, looked at while they go on, steered."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from thresher.bootstrap import Service, make_limits
from thresher.core.errors import BadInput
from thresher.engine.work import ENDED, RunRequest, RunStatus
from thresher.operations import batches
from thresher.operations.access import Principal
from thresher.operations.batches import MOST_DOCUMENTS, RESULT_FORMATS, BatchWish, kept_document
from thresher.operations.uploads import Intake, Part, Upload, received
from thresher.persistence.repositories import batches as repository
from thresher.persistence.repositories.batches import Batch, BatchProgress, NewDocument
from thresher.persistence.repositories.node_facts import FactFilter
from thresher.persistence.repositories.templates import list_templates
from thresher.persistence.repositories.workspace_runs import Page
from thresher.web.deps import FormDep, ServiceDep, VisitDep, Visitor, Writer, check_token
from thresher.web.forms import lines, one
from thresher.web.rendering import redirect, render
from thresher.workflows.discovery.fact_files import MEDIA_TYPES

router = APIRouter(prefix="/batches")

PAGE = 50  # batches, documents
TEMPLATES = 500
LIVE_EVERY, REST_EVERY = 2_000, 10_000  # ms between two looks at what goes on, at what has ended
BLANK = "document.xml"  # what a form calls a file that nobody has chosen


def get_batch(batch_id: str, service: ServiceDep, visitor: Visitor) -> Batch:
    """The batch that an address names.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return batches.find_batch(service, visitor.workspace, batch_id)


def get_batch_to_change(batch_id: str, service: ServiceDep, writer: Writer) -> Batch:
    """The same, for one who may change it.

    Raises:
        NotFound: the workspace has none of this name.
        Forbidden: the key may only read.
    """
    return batches.find_batch(service, writer.workspace, batch_id)


BatchDep = Annotated[Batch, Depends(get_batch)]
BatchToChange = Annotated[Batch, Depends(get_batch_to_change)]


@router.get("")
def show_batches(
    request: Request,
    service: ServiceDep,
    visitor: Visitor,
    after: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """The batches of the workspace, the newest first; only the list where a part of the page asks."""
    template = "_batches.html" if request.headers.get("hx-request") else "batches.html"
    return _list_page(request, service, visitor, template, after=after)


@router.post("")
async def begin_batch(request: Request, service: ServiceDep, writer: Writer, visit: VisitDep) -> Response:
    """Begins a batch of files, of addresses, or of both, and shows it."""
    most = (writer.key and writer.key.max_upload_bytes) or service.settings.max_upload_bytes
    intake = Intake(service.files, most, make_limits(service.settings), MOST_DOCUMENTS)
    async with received(request, intake, instead="urls") as upload:
        check_token(request, visit, upload.fields)
        try:
            batch = await run_in_threadpool(_begin, service, BatchWish(writer.workspace, (), max_bytes=most), upload)
        except BadInput as error:
            refused = partial(_list_page, refusal=str(error), fields=upload.fields)
            return await run_in_threadpool(refused, request, service, writer)
    return redirect(request, f"/batches/{batch.batch_id}")


@router.get("/{batch_id}")
def show_batch(
    request: Request,
    service: ServiceDep,
    batch: BatchDep,
    after: Annotated[int, Query(ge=0, le=MOST_DOCUMENTS)] = 0,
    state: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """A batch, as it is now; only what changes where a part of the page asks."""
    progress = repository.progress_of_batches(service.db, [batch.batch_id])[batch.batch_id]
    status = progress.documents.status(batch.requested)
    states = [state] if state else []
    found = repository.list_documents(service.db, batch.batch_id, PAGE + 1, after, states)
    context: dict[str, Any] = {
        "batch": batch,
        "progress": progress,
        "status_now": status.value,
        "documents": found[:PAGE],
        "state": state,
        "after": after,
        "next": found[PAGE - 1].number if len(found) > PAGE else None,
        "may": _may(batch, progress, status),
        "every": REST_EVERY if status in ENDED else LIVE_EVERY,
    }
    return render(request, "_batch.html" if request.headers.get("hx-request") else "batch.html", **context)


@router.get("/{batch_id}/export")
def export(
    service: ServiceDep,
    batch: BatchDep,
    format_: Annotated[Literal["json", "jsonl", "csv"], Query(alias="format")],
) -> Response:
    """The proved facts of all runs so far, each with its document."""
    rows = batches.stream_results(service, batch, FactFilter())
    name = f'attachment; filename="{batch.batch_id}.{format_}"'
    pieces = RESULT_FORMATS[format_](rows)
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[format_], headers={"Content-Disposition": name})


@router.post("/{batch_id}/pause")
def pause(request: Request, service: ServiceDep, batch: BatchToChange, _fields: FormDep) -> Response:
    """No further document and no further node starts."""
    return _back_to(request, batches.request(service, batch, RunRequest.PAUSE))


@router.post("/{batch_id}/cancel")
def cancel(request: Request, service: ServiceDep, batch: BatchToChange, _fields: FormDep) -> Response:
    """Nodes in hand are finished and kept, all else is cancelled."""
    return _back_to(request, batches.request(service, batch, RunRequest.CANCEL))


@router.post("/{batch_id}/resume")
def resume(request: Request, service: ServiceDep, batch: BatchToChange, _fields: FormDep) -> Response:
    """Goes on."""
    return _back_to(request, batches.resume(service, batch))


@router.post("/{batch_id}/retry")
def retry(request: Request, service: ServiceDep, batch: BatchToChange, fields: FormDep) -> Response:
    """Tries again what has failed, and with ``cancelled`` what was cancelled."""
    return _back_to(request, batches.retry(service, batch, cancelled="cancelled" in fields)[0])


@router.post("/{batch_id}/delete")
def delete(request: Request, service: ServiceDep, batch: BatchToChange, _fields: FormDep) -> Response:
    """Deletes a batch that has ended, with its runs and their facts."""
    batches.delete(service, batch)
    return redirect(request, "/batches")


def _begin(service: Service, wish: BatchWish, upload: Upload) -> Batch:
    fields = upload.fields
    documents = [kept_document(service, wish.workspace, part) for part in upload.parts if not _is_blank(part)]
    documents += [NewDocument("", url) for url in lines(fields, "urls")]
    if not documents:
        raise BadInput("Choose files, or write addresses: there is nothing to read.")
    name, template = one(fields, "name") or None, one(fields, "template") or None
    return batches.submit(service, replace(wish, documents=documents, name=name, template=template))


def _is_blank(part: Part) -> bool:
    return part.incoming is None and part.error is None and part.name == BLANK


def _list_page(
    request: Request,
    service: Service,
    visitor: Principal,
    template: str = "batches.html",
    **more: Any,  # noqa: ANN401 # what the page is of
) -> Response:
    after, fields, refusal = more.get("after"), more.get("fields", {}), more.get("refusal")
    found = repository.list_batches(service.db, visitor.workspace, Page(PAGE + 1, after))
    here = found[:PAGE]
    progress = repository.progress_of_batches(service.db, [batch.batch_id for batch in here])
    context: dict[str, Any] = {
        "rows": [(batch, progress[batch.batch_id]) for batch in here],
        "after": after,
        "next": f"/batches?after={here[-1].batch_id}" if len(found) > PAGE else None,
        "templates": list_templates(service.db, visitor.workspace, TEMPLATES),
        "values": {name: one(fields, name) for name in ("name", "template", "urls")},
        "most": MOST_DOCUMENTS,
        "refusal": refusal,
    }
    return render(request, template, status=422 if refusal else 200, **context)


def _may(batch: Batch, progress: BatchProgress, status: RunStatus) -> dict[str, bool]:
    """What can be asked of the batch now."""
    documents, has_ended = progress.documents, status in ENDED
    return {
        "pause": not has_ended and batch.requested is None,
        "resume": not has_ended and batch.requested is RunRequest.PAUSE,
        "cancel": not has_ended and batch.requested is not RunRequest.CANCEL,
        "retry": has_ended and documents.failed + documents.partial > 0,
        "bring_back": has_ended and documents.cancelled > 0,
        "delete": has_ended,
    }


def _back_to(request: Request, batch: Batch) -> Response:
    return redirect(request, f"/batches/{batch.batch_id}")
