"""The application: routes, errors, and what happens when the server starts and stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from thresher.api.error_handlers import add_error_handlers, answer_to_defect
from thresher.api.progress import Board
from thresher.api.routes import (
    batches,
    documents,
    facts,
    health,
    items,
    node_configurations,
    notifications,
    problems,
    progress,
    runs,
    schedules,
    templates,
)
from thresher.api.schemas.batches import BatchIn
from thresher.api.schemas.problems import ProblemDetails
from thresher.bootstrap import Service
from thresher.operations.access import Doorkeeper
from thresher.operations.background import Background
from thresher.operations.defects import Defects
from thresher.operations.moments import RunMoment
from thresher.operations.run_options import RunOptionsIn
from thresher.operations.tickets import Tickets
from thresher.persistence.repositories.batches import batch_of_run

# A new noun is a file in routes/ and a line here.
ROUTERS = (
    runs.router,
    items.router,
    facts.router,
    progress.router,
    progress.at_the_root,
    documents.router,
    schedules.router,
    batches.router,
    templates.router,
    notifications.router,
    node_configurations.router,
    health.router,
    problems.router,
)

TAGS = [
    {"name": "runs", "description": "A run reads one document; it works in the background, also after a restart."},
    {"name": "items", "description": "The nodes of a run: subtrees of its document, and the tries at them."},
    {"name": "facts", "description": "What was found, each value proved by its place in the document."},
    {"name": "documents", "description": "What was uploaded: what it is, what reading it would take, runs of it."},
    {"name": "batches", "description": "Many documents in one call, each read by a run of its own."},
    {"name": "schedules", "description": "Batches that are begun again and again, at the times of a cron expression."},
    {"name": "templates", "description": "Named sets of options."},
    {"name": "notifications", "description": "Who is told that a run or a batch has ended, and how that went."},
    {"name": "node configurations", "description": "Which paths the runs of a workspace read, and how."},
    {"name": "progress", "description": "What happens to a run, as it happens."},
    {"name": "health", "description": "For those who keep the server going."},
    {"name": "problems", "description": "What the `type` of a problem means."},
]


def create_app(service: Service, *, is_public: bool = False) -> FastAPI:
    """The application for an open service; ``is_public``: a key is needed in any case, see ``Doorkeeper``."""
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
    app.state.board = Board(service, partial(batch_of_run, service.db))
    add_error_handlers(app)
    app.add_middleware(Defects, answer=answer_to_defect)
    for router in ROUTERS:
        app.include_router(router)
    _describe(app)
    return app


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        """Runs are worked on while the server answers; those in hand are left in good order at the end."""
        background = Background(service)
        service.host.start()
        background.start()
        try:
            yield
        finally:
            service.feed.close()
            await run_in_threadpool(background.stop)
            await run_in_threadpool(service.host.stop)

    return lifespan


# What routes refer to by name only.
REFERRED: tuple[Any, ...] = (ProblemDetails, RunOptionsIn, BatchIn, RunMoment)


def _describe(app: FastAPI) -> None:
    """Adds the schemas that nothing but a reference tells of to what OpenAPI says."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        schema = made()
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in REFERRED:
            if model.__name__ not in schemas:
                own = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(own.pop("$defs", {}))
                schemas[model.__name__] = own
        return schema

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation has it
