"""Whether the server lives, whether it can work, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from thresher.api.deps import ServiceDep
from thresher.api.shared_answer import SharedAnswer
from thresher.bootstrap import Service
from thresher.core.errors import ThresherError
from thresher.persistence import migrations

router = APIRouter(tags=["health"])

FRESH = 3.0  # seconds for which what was found holds


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"


class Check(BaseModel):
    """One thing that the server needs; ``detail`` says what is wrong with it."""

    ok: bool
    detail: str | None = None


class Readiness(BaseModel):
    """Whether the server can work."""

    ready: bool
    database: Check
    migrations: Check
    model: Check


@router.get("/health", operation_id="health", summary="Whether the server lives")
async def health() -> Health:
    """Answers at once, whatever the server is doing."""
    return Health()


@router.get(
    "/ready",
    operation_id="ready",
    summary="Whether the server can work",
    responses={503: {"model": Readiness, "description": "Something that it needs is missing."}},
)
async def ready(request: Request, response: Response) -> Readiness:
    """The database answers and is of the right version, the model's server answers and takes the key."""
    found: SharedAnswer[Readiness] = request.app.state.readiness
    readiness = await found.get()
    response.status_code = 200 if readiness.ready else 503
    return readiness


@router.get("/metrics", operation_id="metrics", summary="Figures for Prometheus", response_class=Response)
def metrics(service: ServiceDep) -> Response:
    """The figures of this server, in the text format of Prometheus."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def readiness_of(service: Service) -> SharedAnswer[Readiness]:
    """Whether the server can work: looked at once for all who ask within some seconds, as none of them needs a key."""
    return SharedAnswer(lambda: _look(service), FRESH)


def _look(service: Service) -> Readiness:
    checks = {
        "database": _checked(lambda: _read(service)),
        "migrations": _checked(lambda: migrations.check(service.db.engine)),
        "model": _checked(service.discovery.client.check),
    }
    return Readiness(ready=all(check.ok for check in checks.values()), **checks)


def _read(service: Service) -> None:
    with service.db.read() as session:
        session.connection()


def _checked(check: Callable[[], object]) -> Check:
    try:
        check()
    except ThresherError as error:
        return Check(ok=False, detail=str(error))
    return Check(ok=True)
