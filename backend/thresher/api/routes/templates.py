"""Templates of a workspace."""

from __future__ import annotations

from fastapi import APIRouter, Response

from thresher.api.deps import Cursor, Limit, Reader, ServiceDep, Writer
from thresher.api.schemas.lists import PageOf
from thresher.api.schemas.problems import responses
from thresher.api.schemas.templates import TemplateIn, TemplateOut
from thresher.persistence.repositories import templates as repository

router = APIRouter(prefix="/api/v1/templates", tags=["templates"])


@router.get("/", operation_id="list_templates", summary="List templates", responses=responses())
def get_all(service: ServiceDep, reader: Reader, limit: Limit = 50, cursor: Cursor = None) -> PageOf[TemplateOut]:
    """A page of the templates of the workspace, the oldest first."""
    found = repository.list_templates(service.db, reader.workspace, limit + 1, cursor)
    following = found[limit - 1].template_id if len(found) > limit else None
    return PageOf(data=[TemplateOut.of(template) for template in found[:limit]], next=following)


@router.post("/", operation_id="create_template", summary="Store a template", status_code=201, responses=responses(409))
def create(response: Response, service: ServiceDep, writer: Writer, template: TemplateIn) -> TemplateOut:
    """Stores a template; names are unique."""
    stored = repository.create_template(service.db, writer.workspace, template.new())
    response.headers["Location"] = f"{router.prefix}/{stored.template_id}"
    return TemplateOut.of(stored)


@router.get("/{name}", operation_id="get_template", summary="Show a template", responses=responses())
def get_one(service: ServiceDep, reader: Reader, name: str) -> TemplateOut:
    """A template, by its identifier or its name."""
    return TemplateOut.of(repository.get_template(service.db, reader.workspace, name))


@router.put("/{name}", operation_id="replace_template", summary="Change a template", responses=responses(409))
def replace(service: ServiceDep, writer: Writer, name: str, template: TemplateIn) -> TemplateOut:
    """Puts another template in its place; what was begun from it stays as it is."""
    stored = repository.get_template(service.db, writer.workspace, name)
    return TemplateOut.of(repository.replace_template(service.db, stored, template.new()))


@router.delete(
    "/{name}", operation_id="delete_template", summary="Delete a template", status_code=204, responses=responses(409)
)
def delete(service: ServiceDep, writer: Writer, name: str) -> None:
    """Deletes a template that no schedule uses."""
    repository.delete_template(service.db, repository.get_template(service.db, writer.workspace, name))
