"""Node configurations of a workspace: which paths its runs read, and how."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from thresher.api.bodies import text_of
from thresher.api.deps import Cursor, Limit, Reader, ServiceDep, Writer
from thresher.api.schemas.lists import PageOf
from thresher.api.schemas.node_configurations import (
    ConfigurationsQuery,
    CopiedOut,
    CopyIn,
    ImportedOut,
    NodeConfigurationOut,
)
from thresher.api.schemas.problems import responses
from thresher.core.errors import BadInput
from thresher.operations.configurations import export_file, import_file
from thresher.persistence.repositories import node_configurations as repository
from thresher.workflows.discovery import NodeConfiguration
from thresher.workflows.discovery.stored_configurations import to_stored

router = APIRouter(prefix="/api/v1/node-configurations", tags=["node configurations"])

LARGEST_FILE = 4 * 1024 * 1024  # bytes
YAML = "application/yaml"  # RFC 9512

_FILE = {"requestBody": {"required": True, "content": {YAML: {"schema": {"type": "string"}}}}}


@router.get("/", operation_id="list_node_configurations", summary="List node configurations", responses=responses())
def get_all(
    service: ServiceDep,
    reader: Reader,
    asked: Annotated[ConfigurationsQuery, Query()],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOf[NodeConfigurationOut]:
    """A page of the node configurations of the workspace, as they were stored."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise BadInput("This cursor is none of this list: take `next` of the page before.")
    found = repository.page_of_node_configurations(
        service.db, reader.workspace, asked.filter(), limit + 1, int(cursor or 0)
    )
    here = [NodeConfigurationOut.of(stored) for stored in found[:limit]]
    return PageOf(data=here, next=str(here[-1].id) if len(found) > limit else None)


@router.post(
    "/",
    operation_id="create_node_configuration",
    summary="Store a node configuration",
    status_code=201,
    responses=responses(409),
)
def create(response: Response, service: ServiceDep, writer: Writer, node: NodeConfiguration) -> NodeConfigurationOut:
    """Stores a configuration; one for the same message, version, sender and path is a conflict."""
    stored = repository.insert_node_configuration(service.db, writer.workspace, to_stored(node))
    response.headers["Location"] = f"{router.prefix}/{stored.configuration_id}"
    return NodeConfigurationOut.of(stored)


@router.get(
    "/export",
    operation_id="export_node_configurations",
    summary="Write all node configurations as YAML",
    response_class=Response,
    responses={200: {"content": {YAML: {"schema": {"type": "object"}}}}, **responses()},
)
def export(service: ServiceDep, reader: Reader) -> Response:
    """All configurations of the workspace as a file that can be imported, and given to `thresher discover --config`."""
    head = {"Content-Disposition": f'attachment; filename="nodes-{reader.workspace}.yaml"'}
    return Response(export_file(service, reader.workspace), media_type=YAML, headers=head)


@router.post(
    "/import",
    operation_id="import_node_configurations",
    summary="Store the node configurations of a YAML file",
    responses=responses(413),
    openapi_extra=_FILE,
)
async def import_(
    request: Request,
    service: ServiceDep,
    writer: Writer,
    *,
    replace_all: Annotated[bool, Query(description="Whatever else the workspace has is deleted.")] = False,
) -> ImportedOut:
    """All configurations of the file or none: one for the same message, version, sender and path is replaced."""
    text = await text_of(request, LARGEST_FILE)

    def store() -> int:
        return import_file(service, writer.workspace, text, replace_all=replace_all)

    return ImportedOut(imported=await run_in_threadpool(store))


@router.post(
    "/copy",
    operation_id="copy_node_configurations",
    summary="Copy node configurations to other versions",
    responses=responses(),
)
def copy(service: ServiceDep, writer: Writer, wanted: CopyIn) -> CopiedOut:
    """Stores the configurations that are meant for other versions, too."""
    copied, kept = repository.copy_node_configurations(
        service.db, writer.workspace, wanted.filter(), wanted.to_versions, replace=wanted.replace
    )
    return CopiedOut(copied=copied, kept=kept)


@router.get(
    "/{configuration_id:int}",
    operation_id="get_node_configuration",
    summary="Show a node configuration",
    responses=responses(),
)
def get_one(service: ServiceDep, reader: Reader, configuration_id: int) -> NodeConfigurationOut:
    """A configuration as it is stored."""
    return NodeConfigurationOut.of(repository.get_node_configuration(service.db, reader.workspace, configuration_id))


@router.put(
    "/{configuration_id:int}",
    operation_id="replace_node_configuration",
    summary="Change a node configuration",
    responses=responses(409),
)
def replace(
    service: ServiceDep, writer: Writer, configuration_id: int, node: NodeConfiguration
) -> NodeConfigurationOut:
    """Puts another configuration in its place; runs that have begun keep theirs."""
    stored = repository.replace_node_configuration(service.db, writer.workspace, configuration_id, to_stored(node))
    return NodeConfigurationOut.of(stored)


@router.delete(
    "/{configuration_id:int}",
    operation_id="delete_node_configuration",
    summary="Delete a node configuration",
    status_code=204,
    responses=responses(),
)
def delete(service: ServiceDep, writer: Writer, configuration_id: int) -> None:
    """Deletes a configuration; runs that have begun keep theirs."""
    repository.delete_node_configuration(service.db, writer.workspace, configuration_id)
