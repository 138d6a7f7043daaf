"""What pages ask for: the service, who visits, a form that is ours."""

from __future__ import annotations

from typing import Annotated, cast
from urllib.parse import parse_qs

from fastapi import Depends, Request

from thresher.bootstrap import Service
from thresher.core.access import Role
from thresher.core.errors import BadInput, Forbidden
from thresher.engine.work import Run
from thresher.operations import runs
from thresher.operations.access import Doorkeeper, Principal
from thresher.operations.tickets import Tickets
from thresher.web.visits import COOKIE, Visit, VisitBook

TOKEN = "form_token"  # noqa: S105 # the field's name
MOST_FIELDS = 5_000

Fields = dict[str, list[str]]


def get_service(request: Request) -> Service:
    """The service that these pages were made for."""
    return cast("Service", request.app.state.service)


def get_doorkeeper(request: Request) -> Doorkeeper:
    """Who lets visitors in."""
    return cast("Doorkeeper", request.app.state.doorkeeper)


def get_book(request: Request) -> VisitBook:
    """Who knows visits again."""
    return cast("VisitBook", request.app.state.visits)


def get_tickets(request: Request) -> Tickets:
    """Who gives out tickets to what the API tells as it happens."""
    return cast("Tickets", request.app.state.tickets)


def get_visit(request: Request) -> Visit:
    """The visit of this browser; a new one, which the answer hands out, where it has none."""
    known = getattr(request.state, "visit", None)
    if isinstance(known, Visit):
        return known
    book = get_book(request)
    visit = book.read(request.cookies.get(COOKIE))
    if visit is None or visit.is_ageing:
        visit = book.begin() if visit is None else book.renewed(visit)
        request.state.hand_out = visit
    request.state.visit = visit
    return visit


def get_visitor(
    request: Request,
    doorkeeper: Annotated[Doorkeeper, Depends(get_doorkeeper)],
    visit: Annotated[Visit, Depends(get_visit)],
) -> Principal:
    """Who visits.

    Raises:
        Unauthenticated: a key is needed, and this visit has none that is valid.
        TooManyRequests: see ``Doorkeeper.admit_holder``.
    """
    visitor = doorkeeper.admit_holder(visit.key_id)
    request.state.visitor = visitor
    return visitor


def get_writer(visitor: Annotated[Principal, Depends(get_visitor)]) -> Principal:
    """Who visits, and may change things.

    Raises:
        Forbidden: the key may only read.
    """
    visitor.require(Role.WRITE)
    return visitor


async def get_fields(request: Request, visit: Annotated[Visit, Depends(get_visit)]) -> Fields:
    """The fields of a form that one of our pages has sent.

    Raises:
        Forbidden: it does not belong to this visit, or the page is too old.
        BadInput: it cannot be read.
    """
    body = await request.body()  # bounded by what stands before the whole site (MAX_BODY_BYTES)
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=MOST_FIELDS, keep_blank_values=True)
    except ValueError as error:
        raise BadInput("The form cannot be read.") from error
    check_token(request, visit, fields)
    return fields


def check_token(request: Request, visit: Visit, fields: Fields) -> None:
    """Refuses a form that is none of this visit.

    Raises:
        Forbidden: it is not.
    """
    if not get_book(request).is_token(visit, fields.pop(TOKEN, [""])[-1]):
        raise Forbidden(
            "This form was open for too long, or is not of this visit. Load the page anew and send it again."
        )


ServiceDep = Annotated[Service, Depends(get_service)]
VisitDep = Annotated[Visit, Depends(get_visit)]
Visitor = Annotated[Principal, Depends(get_visitor)]
Writer = Annotated[Principal, Depends(get_writer)]
FormDep = Annotated[Fields, Depends(get_fields)]


def get_run(run_id: str, service: ServiceDep, visitor: Visitor) -> Run:
    """The run that an address names.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return runs.find_run(service, visitor.workspace, run_id)


def get_run_to_change(run_id: str, service: ServiceDep, writer: Writer) -> Run:
    """The run that an address names, for one who may change it.

    Raises:
        NotFound: the workspace has none of this name.
        Forbidden: the key may only read.
    """
    return runs.find_run(service, writer.workspace, run_id)


RunDep = Annotated[Run, Depends(get_run)]
RunToChange = Annotated[Run, Depends(get_run_to_change)]
