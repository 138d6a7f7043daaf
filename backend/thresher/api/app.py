"""The application: routes, errors, and what happens when the server starts and stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from thresher.api.defects import Defects
from thresher.api.error_handlers import add_error_handlers
from thresher.api.progress import BatchOf, Board
from thresher.api.routes import facts, health, items, problems, progress, runs
from thresher.api.schemas.problems import ProblemDetails
from thresher.api.schemas.runs import RunOptionsIn
from thresher.bootstrap import Service
from thresher.operations.access import Doorkeeper
from thresher.operations.moments import RunMoment
from thresher.operations.sources import Retention
from thresher.operations.tickets import Tickets

# A new noun is a file in routes/ and a line here.
ROUTERS = (runs.router, items.router, facts.router, progress.router, health.router, problems.router)

TAGS = [
    {"name": "runs", "description": "A run reads one document; it works in the background, also after a restart."},
    {"name": "items", "description": "The nodes of a run: subtrees of its document, and the tries at them."},
    {"name": "facts", "description": "What was found, each value proved by its place in the document."},
    {"name": "progress", "description": "What happens to a run, as it happens."},
    {"name": "health", "description": "For those who keep the server going."},
    {"name": "problems", "description": "What the `type` of a problem means."},
]


def create_app(service: Service, *, is_public: bool = False, batch_of: BatchOf | None = None) -> FastAPI:
    """The application for an open service.

    ``is_public``: a key is needed in any case, see ``Doorkeeper``. ``batch_of``: which batch a run belongs to.
    """
    app = FastAPI(
        title="Thresher",
        summary="Facts from every subtree of a large XML document, each proved by its path in the source.",
        version=version("thresher"),
        openapi_tags=TAGS,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan(service),
    )
    app.state.service = service
    app.state.doorkeeper = Doorkeeper(service, is_public=is_public)
    app.state.readiness = health.readiness_of(service)
    app.state.tickets = Tickets(service, app.state.doorkeeper)
    app.state.board = Board(service, batch_of)
    add_error_handlers(app)
    app.add_middleware(Defects)
    for router in ROUTERS:
        app.include_router(router)
    _describe(app)
    return app


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        """Runs are worked on while the server answers; those in hand are left in good order at the end."""
        retention = Retention(service)
        service.host.start()
        retention.start()
        try:
            yield
        finally:
            service.feed.close()
            await run_in_threadpool(service.host.stop)
            await run_in_threadpool(retention.stop)

    return lifespan


# What routes refer to by name only.
REFERRED: tuple[Any, ...] = (ProblemDetails, RunOptionsIn, RunMoment)


def _describe(app: FastAPI) -> None:
    """Adds the schemas that nothing but a reference tells of to what OpenAPI says."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        schema = made()
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in REFERRED:
            if model.__name__ not in schemas:
                own = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
                schemas.update(own.pop("$defs", {}))
                schemas[model.__name__] = own
        return schema

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation has it
