"""Node configurations of the workspace: listed, changed, read from YAML and written as YAML."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from thresher.bootstrap import Service
from thresher.core.errors import BadConfiguration, BadInput, StateConflict
from thresher.operations.access import Principal
from thresher.operations.configurations import export_file, import_file
from thresher.persistence.repositories import node_configurations as repository
from thresher.persistence.repositories.node_configurations import StoredNodeConfiguration
from thresher.web.deps import Fields, FormDep, ServiceDep, Visitor, Writer
from thresher.web.forms import one
from thresher.web.rendering import redirect, render
from thresher.workflows.discovery import NodeConfiguration
from thresher.workflows.discovery.stored_configurations import to_stored

router = APIRouter(prefix="/node-configurations")

_HOME = "/node-configurations"


@router.get("")
def show_all(request: Request, service: ServiceDep, visitor: Visitor) -> Response:
    """The configurations of the workspace, by message, version, sender and path."""
    return _list_page(request, service, visitor)


@router.get("/new")
def show_new(request: Request, _visitor: Visitor) -> Response:
    """The form for a new one."""
    return _form_page(request, {"enabled": ["on"]}, None)


@router.get("/export.yaml")
def export(service: ServiceDep, visitor: Visitor) -> Response:
    """All configurations of the workspace as a file."""
    head = {"Content-Disposition": f'attachment; filename="nodes-{visitor.workspace}.yaml"'}
    return Response(export_file(service, visitor.workspace), media_type="application/yaml", headers=head)


@router.post("/import")
def import_(request: Request, service: ServiceDep, writer: Writer, fields: FormDep) -> Response:
    """Stores the configurations of a YAML text, all or none."""
    text = one(fields, "yaml")
    try:
        import_file(service, writer.workspace, text, replace_all="replace_all" in fields)
    except BadConfiguration as error:
        return _list_page(request, service, writer, str(error), text)
    return redirect(request, _HOME)


@router.post("")
def create(request: Request, service: ServiceDep, writer: Writer, fields: FormDep) -> Response:
    """Stores a new one."""
    try:
        repository.insert_node_configuration(service.db, writer.workspace, to_stored(_node(fields)))
    except (BadInput, StateConflict) as error:
        return _form_page(request, fields, None, str(error))
    return redirect(request, _HOME)


@router.get("/{configuration_id}")
def show_one(request: Request, service: ServiceDep, visitor: Visitor, configuration_id: int) -> Response:
    """The form of one."""
    stored = repository.get_node_configuration(service.db, visitor.workspace, configuration_id)
    return _form_page(request, _written(stored), configuration_id)


@router.post("/{configuration_id}")
def replace(request: Request, service: ServiceDep, writer: Writer, configuration_id: int, fields: FormDep) -> Response:
    """Puts what was sent in its place."""
    try:
        new = to_stored(_node(fields))
        repository.replace_node_configuration(service.db, writer.workspace, configuration_id, new)
    except (BadConfiguration, StateConflict) as error:
        return _form_page(request, fields, configuration_id, str(error))
    return redirect(request, _HOME)


@router.post("/{configuration_id}/delete")
def delete(request: Request, service: ServiceDep, writer: Writer, configuration_id: int, _fields: FormDep) -> Response:
    """Deletes one; runs that have begun keep theirs."""
    repository.delete_node_configuration(service.db, writer.workspace, configuration_id)
    return redirect(request, _HOME)


def _node(fields: Fields) -> NodeConfiguration:
    """What the form says.

    Raises:
        BadConfiguration: it cannot be used.
    """
    said: dict[str, Any] = {name: one(fields, name) or None for name in ("message", "version", "sender")}
    said |= {"path": one(fields, "path"), "instructions": one(fields, "instructions") or None}
    schema = one(fields, "schema")
    try:
        said["schema"] = json.loads(schema) if schema else None
    except ValueError as error:
        raise BadConfiguration(f"The schema is no JSON: {error}.") from error
    try:
        return NodeConfiguration.model_validate({**said, "enabled": "enabled" in fields})
    except ValidationError as error:
        told = (f"{one_['loc'][0]}: {one_['msg'].removeprefix('Value error, ')}" for one_ in error.errors())
        raise BadConfiguration("; ".join(told)) from error


def _written(stored: StoredNodeConfiguration) -> Fields:
    schema = None if stored.record_schema is None else json.dumps(stored.record_schema, indent=2, ensure_ascii=False)
    values = {
        "path": stored.path,
        "message": stored.message_root,
        "version": stored.spec_version,
        "sender": stored.sender,
        "instructions": stored.instructions,
        "schema": schema,
        "enabled": "on" if stored.enabled else None,
    }
    return {name: [value] for name, value in values.items() if value is not None}


def _list_page(
    request: Request, service: Service, visitor: Principal, refusal: str | None = None, yaml: str = ""
) -> Response:
    found = repository.list_node_configurations(service.db, visitor.workspace)
    status = 422 if refusal else 200
    return render(request, "node_configurations.html", status=status, nodes=found, refusal=refusal, yaml=yaml)


def _form_page(request: Request, fields: Fields, number: int | None, refusal: str | None = None) -> Response:
    names = ("path", "message", "version", "sender", "instructions", "schema")
    values = {name: one(fields, name) for name in names}
    context = {"values": values, "is_enabled": "enabled" in fields, "number": number, "refusal": refusal}
    return render(request, "node_configuration.html", status=422 if refusal else 200, **context)
