"""The application of the pages."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from thresher.bootstrap import Service
from thresher.operations.access import Doorkeeper
from thresher.operations.defects import Defects
from thresher.operations.tickets import Tickets
from thresher.web.errors import add_error_pages, answer_to_defect
from thresher.web.rendering import STATIC
from thresher.web.routes import (
    batches,
    comparisons,
    dashboards,
    dead_letters,
    documents,
    facts,
    keys,
    node_configurations,
    notifications,
    runs,
    schedules,
    visits,
)
from thresher.web.security import SecurityHeaders
from thresher.web.visits import VisitBook, secret_in

# A new noun is a file in routes/, its first word here, and a line in the navigation of templates/base.html.
ROUTERS = (
    documents.router,
    batches.router,
    comparisons.router,
    dashboards.router,
    dead_letters.router,
    runs.router,
    facts.router,
    keys.router,
    node_configurations.router,
    notifications.router,
    schedules.router,
    visits.router,
)
ROOMS = frozenset(
    {
        *("", "batches", "compare", "dashboard", "documents", "keys", "node-configurations", "notifications"),
        *("runs", "sample", "schedules", "sign-in", "sign-out", "static"),
    }
)
"""The first words of the addresses of pages; all others are the API's."""


def create_pages(service: Service, doorkeeper: Doorkeeper, tickets: Tickets) -> FastAPI:
    """The pages of an open service."""
    app = FastAPI(title="Thresher", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.doorkeeper = doorkeeper
    app.state.tickets = tickets
    app.state.visits = VisitBook(secret_in(service.settings.data_dir))
    app.add_middleware(Defects, answer=answer_to_defect)
    app.add_middleware(SecurityHeaders)
    add_error_pages(app)
    app.mount("/static", _Static(directory=STATIC))
    for router in ROUTERS:
        app.include_router(router)
    return app


def is_page(scope: Scope) -> bool:
    """Whether the pages answer a request, and not the API."""
    return scope["type"] == "http" and scope["path"].split("/", 2)[1] in ROOMS


class _Static(StaticFiles):
    """Files whose addresses change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if b"v=" in scope["query_string"]:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
