"""Keys to the workspace: listed, made, revoked."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from thresher.bootstrap import Service
from thresher.core.access import Role
from thresher.core.errors import BadInput
from thresher.operations import keys
from thresher.operations.access import Principal
from thresher.persistence.repositories.api_keys import any_key, list_keys
from thresher.web.deps import FormDep, ServiceDep, Visitor, Writer
from thresher.web.forms import days, one
from thresher.web.rendering import redirect, render

router = APIRouter(prefix="/keys")


@router.get("")
def show_keys(request: Request, service: ServiceDep, visitor: Visitor) -> Response:
    """The keys of the workspace, without their secrets."""
    return _page(request, service, visitor)


@router.post("")
def create_key(request: Request, service: ServiceDep, writer: Writer, fields: FormDep) -> Response:
    """Makes a key; this page alone shows its secret."""
    is_first = not any_key(service.db)
    try:
        role = Role.WRITE if one(fields, "role") == Role.WRITE.value else Role.READ
        made = keys.create(service, writer, keys.KeyWish(one(fields, "name"), role, days(fields, "days")))
    except BadInput as error:
        return _page(request, service, writer, status=422, refusal=str(error))
    return _page(request, service, writer, made=made, is_first=is_first)


@router.post("/{key_id}/revoke")
def revoke_key(request: Request, service: ServiceDep, writer: Writer, key_id: str, _fields: FormDep) -> Response:
    """Makes a key open nothing any more."""
    keys.revoke(service, writer, key_id)
    return redirect(request, "/keys")


def _page(request: Request, service: Service, visitor: Principal, *, status: int = 200, **more: object) -> Response:
    found = list(reversed(list_keys(service.db, visitor.workspace)))
    context = {"keys": found, "now": datetime.now(UTC), "made": None, "is_first": False, "refusal": None}
    return render(request, "keys.html", status=status, **{**context, "needs_first": not found, **more})
