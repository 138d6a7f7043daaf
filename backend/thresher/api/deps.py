"""What routes ask for: the service, who asks, a page of a list."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Query, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from thresher.api.progress import Board
from thresher.bootstrap import Service, make_limits
from thresher.core.access import Role
from thresher.engine.work import Run
from thresher.operations import runs
from thresher.operations.access import Doorkeeper, Principal
from thresher.operations.batches import find_batch
from thresher.operations.sources import find_source
from thresher.operations.tickets import Tickets
from thresher.operations.uploads import Intake
from thresher.persistence.repositories.batches import Batch
from thresher.persistence.repositories.sources import Source

_bearer = HTTPBearer(auto_error=False, description="A key that `thresher keys create` has made.")


WorkspaceName = Annotated[
    str | None, Query(pattern="^[A-Za-z0-9._-]{1,64}$", description="The workspace; with a key: that of the key.")
]


def get_service(connection: HTTPConnection) -> Service:
    """The service that this application was made for."""
    return cast("Service", connection.app.state.service)


def get_doorkeeper(connection: HTTPConnection) -> Doorkeeper:
    """Who lets requests in."""
    return cast("Doorkeeper", connection.app.state.doorkeeper)


def get_tickets(connection: HTTPConnection) -> Tickets:
    """Who gives out tickets and takes them."""
    return cast("Tickets", connection.app.state.tickets)


def get_board(connection: HTTPConnection) -> Board:
    """Where progress is told."""
    return cast("Board", connection.app.state.board)


def get_principal(
    doorkeeper: Annotated[Doorkeeper, Depends(get_doorkeeper)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    workspace: WorkspaceName = None,
) -> Principal:
    """Who asks.

    Raises:
        Unauthenticated, NotFound, TooManyRequests: see ``Doorkeeper.admit``.
    """
    return doorkeeper.admit(credentials.credentials if credentials else None, workspace)


def get_writer(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
    """Who asks, and may change things.

    Raises:
        Forbidden: the key may only read.
    """
    principal.require(Role.WRITE)
    return principal


def get_onlooker(
    doorkeeper: Annotated[Doorkeeper, Depends(get_doorkeeper)],
    tickets: Annotated[Tickets, Depends(get_tickets)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    workspace: WorkspaceName = None,
    token: Annotated[
        str | None, Query(max_length=200, description="A ticket of `POST /api/v1/tickets`, where no header can be set.")
    ] = None,
) -> Principal:
    """Who looks on: like ``get_principal``, or by a ticket.

    Raises:
        Unauthenticated, NotFound, TooManyRequests: see ``Doorkeeper.admit`` and ``Tickets.redeem``.
    """
    if token is not None:
        return tickets.redeem(token, workspace)
    return get_principal(doorkeeper, credentials, workspace)


ServiceDep = Annotated[Service, Depends(get_service)]
Reader = Annotated[Principal, Depends(get_principal)]
Writer = Annotated[Principal, Depends(get_writer)]


def get_run(run_id: str, service: ServiceDep, reader: Reader) -> Run:
    """The run that an address names.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return runs.find_run(service, reader.workspace, run_id)


def get_run_to_change(run_id: str, service: ServiceDep, writer: Writer) -> Run:
    """The run that an address names, for one who may change it.

    Raises:
        NotFound: the workspace has none of this name.
        Forbidden: the key may only read.
    """
    return runs.find_run(service, writer.workspace, run_id)


def get_run_to_watch(run_id: str, service: ServiceDep, onlooker: Annotated[Principal, Depends(get_onlooker)]) -> Run:
    """The run that an address names, for one who looks on.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return runs.find_run(service, onlooker.workspace, run_id)


def get_batch_to_watch(
    batch_id: str, service: ServiceDep, onlooker: Annotated[Principal, Depends(get_onlooker)]
) -> Batch:
    """The batch that an address names, for one who looks on.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return find_batch(service, onlooker.workspace, batch_id)


def get_source(source_id: str, service: ServiceDep, reader: Reader) -> Source:
    """The document that an address names.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return find_source(service, reader.workspace, source_id)


def get_batch(batch_id: str, service: ServiceDep, reader: Reader) -> Batch:
    """The batch that an address names.

    Raises:
        NotFound: the workspace has none of this name.
    """
    return find_batch(service, reader.workspace, batch_id)


def get_intake(service: ServiceDep, writer: Writer) -> Intake:
    """What is taken of somebody who uploads one document."""
    most = (writer.key and writer.key.max_upload_bytes) or service.settings.max_upload_bytes
    return Intake(service.files, most, make_limits(service.settings))


IntakeDep = Annotated[Intake, Depends(get_intake)]
BatchToWatch = Annotated[Batch, Depends(get_batch_to_watch)]
BatchDep = Annotated[Batch, Depends(get_batch)]
SourceDep = Annotated[Source, Depends(get_source)]
RunDep = Annotated[Run, Depends(get_run)]
RunToChange = Annotated[Run, Depends(get_run_to_change)]
RunToWatch = Annotated[Run, Depends(get_run_to_watch)]
BoardDep = Annotated[Board, Depends(get_board)]
TicketsDep = Annotated[Tickets, Depends(get_tickets)]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before.")]
