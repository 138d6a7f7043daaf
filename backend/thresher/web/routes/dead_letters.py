"""The dead letters of a run: what failed for good, why, with every try; retried one by one, some, or all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from thresher.bootstrap import Service
from thresher.core.errors import BadInput, NotFound
from thresher.engine.work import Run, RunRequest, RunStatus
from thresher.operations import runs
from thresher.operations.advice import advice_on
from thresher.operations.places import cursor_of, place_of
from thresher.persistence.repositories.items import (
    Chosen,
    DeadLetter,
    ItemPage,
    attempts_of,
    attempts_of_items,
    dead_letters,
    get_item,
)
from thresher.persistence.repositories.statistics import error_summary
from thresher.web.deps import Fields, FormDep, RunDep, RunToChange, ServiceDep
from thresher.web.rendering import redirect, render

router = APIRouter(prefix="/runs/{run_id}/dead-letters")

PAGE = 20  # dead letters
ANSWER_SHOWN = 3_000  # characters of a raw answer; all of it is a file


@router.get("")
def show_dead_letters(
    request: Request,
    service: ServiceDep,
    run: RunDep,
    error_class: Annotated[str | None, Query(alias="class", max_length=200)] = None,
    after: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """A page of the dead letters (of one class), in document order."""
    return _page(request, service, run, error_class, after)


@router.post("/retry")
def retry_dead_letters(request: Request, service: ServiceDep, run: RunToChange, fields: FormDep) -> Response:
    """Tries again the one whose button was pressed, those of a class, all, or those that are ticked."""
    try:
        chosen = _chosen(fields)
    except BadInput as error:
        return _page(request, service, run, fields.get("class", [None])[-1] or None, None, str(error))
    return redirect(request, f"/runs/{runs.retry(service, run, chosen)[0].run_id}")


@router.get("/{item_id}/{number}.txt")
def download_answer(service: ServiceDep, run: RunDep, item_id: int, number: int) -> Response:
    """The answer to one try, as the model gave it.

    Raises:
        NotFound: there was no such try, or it left no answer.
    """
    item = get_item(service.db, run.run_id, item_id)
    for attempt in attempts_of(service.db, item.item_id):
        if attempt.number == number and attempt.raw_answer is not None:
            name = f'attachment; filename="{run.run_id}-{item_id}-{number}.txt"'
            return PlainTextResponse(attempt.raw_answer, headers={"Content-Disposition": name})
    raise NotFound(f"Try {number} at the node {item_id} has left no answer.")


def _chosen(fields: Fields) -> Chosen:
    if "one" in fields:
        return Chosen(items=fields["one"])
    if "error_class" in fields:
        return Chosen(error_classes=fields["error_class"])
    if "all" in fields:
        return Chosen()
    if not fields.get("item"):
        raise BadInput("Tick at least one node, or retry all of them.")
    return Chosen(items=fields["item"])


def _page(
    request: Request,
    service: Service,
    run: Run,
    error_class: str | None,
    after: str | None,
    refusal: str | None = None,
) -> Response:
    classes = () if error_class is None else (error_class,)
    found = dead_letters(service.db, run.run_id, classes, ItemPage(PAGE + 1, place_of(after)))
    here = found[:PAGE]
    attempts = attempts_of_items(service.db, [letter.item_id for letter in here])
    groups = [{**group, "advice": advice_on(group["class"])} for group in error_summary(service.db, run.run_id)]
    following = _address(run, error_class, here) if len(found) > PAGE else None
    context: dict[str, Any] = {
        "run": run,
        "groups": groups,
        "total": sum(group["count"] for group in groups),
        "letters": [(letter, attempts[letter.item_id]) for letter in here],
        "chosen_class": error_class,
        "address": _address(run),
        "address_of": lambda name: _address(run, name),
        "next": following,
        "is_first": after is None,
        "refusal": refusal,
        "can_retry": run.status is not RunStatus.CANCELLED and run.requested is not RunRequest.CANCEL,
        "answer_shown": ANSWER_SHOWN,
    }
    return render(request, "dead_letters.html", status=200 if refusal is None else 422, **context)


def _address(run: Run, error_class: str | None = None, behind: Sequence[DeadLetter] = ()) -> str:
    query = {"class": error_class, "after": cursor_of(behind[-1].place) if behind else None}
    written = urlencode({name: value for name, value in query.items() if value is not None})
    return f"/runs/{run.run_id}/dead-letters" + (f"?{written}" if written else "")
