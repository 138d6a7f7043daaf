"""Signing in with a key, and out again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from thresher.core.errors import Unauthenticated
from thresher.operations.access import LOOPBACK
from thresher.web.deps import FormDep, get_book, get_doorkeeper
from thresher.web.rendering import hand_out, redirect, render
from thresher.web.security import host_of

router = APIRouter()


@router.get("/sign-in")
def show_sign_in(request: Request, following: Annotated[str, Query(alias="next")] = "/") -> Response:
    """The page that takes a key."""
    return _sign_in_page(request, following)


@router.post("/sign-in")
def sign_in(request: Request, fields: FormDep) -> Response:
    """Begins a visit with a key; a new one, so that nobody can have known its cookie before."""
    following, secret = fields.get("next", ["/"])[-1], fields.get("key", [""])[-1].strip()
    try:
        principal = get_doorkeeper(request).admit(secret, None)
    except Unauthenticated as error:
        return _sign_in_page(request, following, str(error))
    response = redirect(request, _ours(following))
    hand_out(request, response, get_book(request).begin(principal.key.key_id if principal.key else None))
    return response


@router.post("/sign-out")
def sign_out(request: Request, _fields: FormDep) -> Response:
    """Ends the visit."""
    response = redirect(request, "/sign-in")
    hand_out(request, response, get_book(request).begin())
    return response


def _sign_in_page(request: Request, following: str, refusal: str | None = None) -> Response:
    is_open_line = request.url.scheme != "https" and host_of(request.headers) not in LOOPBACK
    status = 200 if refusal is None else 401
    return render(
        request, "sign_in.html", status=status, following=_ours(following), refusal=refusal, is_open_line=is_open_line
    )


def _ours(address: str) -> str:
    """An address on this server; the start page for any other."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_ours else "/"
