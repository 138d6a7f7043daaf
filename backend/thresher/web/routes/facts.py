"""Facts: a table with filters, a fact beside the markup that proves it, and files to take away."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from thresher.bootstrap import Service
from thresher.core.errors import BadInput
from thresher.engine.work import Run
from thresher.operations.proofs import Proof, proof_of
from thresher.persistence.repositories.node_facts import (
    FactFilter,
    FactPage,
    FactPlace,
    Grounding,
    StoredFact,
    fact_counts,
    fact_types,
    get_fact,
    list_facts,
    stream_facts,
)
from thresher.web.deps import RunDep, ServiceDep
from thresher.web.markup import Mark, marks_of, parts_of
from thresher.web.rendering import render
from thresher.workflows.discovery.fact_files import FORMATS, MEDIA_TYPES

router = APIRouter(prefix="/runs/{run_id}")

PAGE = 50  # facts
VALUES_SHOWN = 6  # of a fact, in the table
_PLACE = re.compile(r"(\d{0,200})-(\d{1,18})-(\d{1,9})")


class Wanted:
    """Which facts are looked at, as the address of the page says it."""

    def __init__(
        self,
        path: Annotated[str, Query(max_length=2000)] = "",
        node_type: Annotated[str, Query(alias="type", max_length=500)] = "",
        grounded: Annotated[Grounding, Query()] = Grounding.ALL,
    ) -> None:
        self.path = path.strip()
        self.node_type = node_type
        self.grounding = grounded

    def filter(self) -> FactFilter:
        """The same, for the repository."""
        return FactFilter(self.node_type or None, self.path or None, self.grounding)

    def query(self, **more: str) -> str:
        """The same, for an address; empty where all are wanted."""
        said = {"path": self.path, "type": self.node_type}
        if self.grounding is not Grounding.ALL:
            said["grounded"] = self.grounding.value
        said = {name: value for name, value in {**said, **more}.items() if value}
        return f"?{urlencode(said)}" if said else ""


WantedDep = Annotated[Wanted, Depends()]


@router.get("/facts")
def show_facts(
    request: Request,
    service: ServiceDep,
    run: RunDep,
    wanted: WantedDep,
    after: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """A page of the facts, in the order of the document; only the table where a part of the page asks."""
    found = list_facts(service.db, run.run_id, wanted.filter(), FactPage(PAGE + 1, _place(after)))
    context: dict[str, Any] = {
        "run": run,
        "wanted": wanted,
        "facts": found[:PAGE],
        "next": wanted.query(after=_written(found[PAGE - 1].place)) if len(found) > PAGE else None,
        "is_first": after is None,
        "values_shown": VALUES_SHOWN,
    }
    if request.headers.get("hx-request"):
        return render(request, "_facts.html", **context)
    totals, types = fact_counts(service.db, run.run_id), fact_types(service.db, run.run_id)
    return render(request, "facts.html", groundings=_GROUNDINGS, totals=totals, types=types, **context)


_GROUNDINGS = (
    (Grounding.ALL, "all values"),
    (Grounding.PROVED, "facts with a proved value"),
    (Grounding.UNPROVED, "facts with a value that is not proved"),
)


@router.get("/export")
def export_facts(
    service: ServiceDep,
    run: RunDep,
    wanted: WantedDep,
    format_: Annotated[Literal["json", "jsonl", "csv"], Query(alias="format")],
) -> StreamingResponse:
    """The facts as a file, streamed."""
    rows = stream_facts(service.db, run.run_id, wanted.filter())
    name = f'attachment; filename="{run.run_id}.{format_}"'
    return StreamingResponse(
        FORMATS[format_](rows), media_type=MEDIA_TYPES[format_], headers={"Content-Disposition": name}
    )


@router.get("/facts/{fact_id}")
def show_fact(request: Request, service: ServiceDep, run: RunDep, fact_id: int, wanted: WantedDep) -> Response:
    """A fact beside the markup that proves it."""
    fact = get_fact(service.db, run.run_id, fact_id)
    proof = proof_of(service, run, fact)
    marks = _marks(proof, fact)
    context: dict[str, Any] = {
        "run": run,
        "fact": fact,
        "wanted": wanted,
        "proof": proof,
        "places": {} if proof.excerpt is None else {path: marks[path].number for path in marks},
        "parts": () if proof.excerpt is None else tuple(parts_of(proof.excerpt, list(marks.values()))),
        "earlier": _neighbour(service, run, wanted, fact, is_backwards=True),
        "later": _neighbour(service, run, wanted, fact, is_backwards=False),
    }
    return render(request, "fact.html", **context)


def _marks(proof: Proof, fact: StoredFact) -> dict[str, Mark]:
    """By path: what is marked. A place that proves one value proves, whatever else was claimed of it."""
    if proof.excerpt is None:
        return {}
    proved: dict[str, bool] = {}
    for value in (*fact.fields, *fact.references):
        proved[value["path"]] = proved.get(value["path"], False) or bool(value.get("grounded", True))
    by_place = {(place.start, place.end): path for path, place in proof.excerpt.places.items()}
    return {by_place[mark.start, mark.end]: mark for mark in marks_of(proof.excerpt, proved)}


def _neighbour(service: Service, run: Run, wanted: Wanted, fact: StoredFact, *, is_backwards: bool) -> int | None:
    page = FactPage(1, fact.place, is_backwards)
    return next((one.fact_id for one in list_facts(service.db, run.run_id, wanted.filter(), page)), None)


def _written(place: FactPlace) -> str:
    return f"{place[0]}-{place[1]}-{place[2]}"


def _place(cursor: str | None) -> FactPlace | None:
    if cursor is None:
        return None
    found = _PLACE.fullmatch(cursor)
    if found is None:
        raise BadInput("This address is none of this list: begin with its first page.")
    return found[1], int(found[2]), int(found[3])
