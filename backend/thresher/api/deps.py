"""What routes ask for: the service, who asks, a page of a list."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from thresher.bootstrap import Service, make_limits
from thresher.core.access import Role
from thresher.engine.work import Run
from thresher.operations import runs
from thresher.operations.access import Doorkeeper, Principal
from thresher.operations.batches import find_batch
from thresher.operations.sources import find_source
from thresher.operations.uploads import Intake
from thresher.persistence.repositories.batches import Batch
from thresher.persistence.repositories.sources import Source

_bearer = HTTPBearer(auto_error=False, description="A key that `thresher keys create` has made.")


def get_service(request: Request) -> Service:
    """The service that this application was made for."""
    return cast("Service", request.app.state.service)


def get_doorkeeper(request: Request) -> Doorkeeper:
    """Who lets requests in."""
    return cast("Doorkeeper", request.app.state.doorkeeper)


def get_principal(
    doorkeeper: Annotated[Doorkeeper, Depends(get_doorkeeper)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    workspace: Annotated[
        str | None,
        Query(pattern="^[A-Za-z0-9._-]{1,64}$", description="The workspace; with a key: that of the key."),
    ] = None,
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
BatchDep = Annotated[Batch, Depends(get_batch)]
SourceDep = Annotated[Source, Depends(get_source)]
RunDep = Annotated[Run, Depends(get_run)]
RunToChange = Annotated[Run, Depends(get_run_to_change)]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before.")]
