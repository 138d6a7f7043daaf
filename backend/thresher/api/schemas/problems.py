"""Problem details, as RFC 9457 describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from thresher.operations import problems


class PlaceOfError(BaseModel):
    """A place in a request that is not as it should be."""

    place: str
    message: str


class ProblemDetails(BaseModel):
    """What went wrong, where, and what to do."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Which problem it is: an address on this server that explains it, and never changes.")
    title: str
    status: int
    detail: str = Field(description="What was wrong, for people.")
    instance: str = Field(description="The address that was asked.")
    action: str = Field(description="What to do.")
    errors: list[PlaceOfError] | None = Field(default=None, description="Places in the request, if it was invalid.")
    line: int | None = Field(default=None, description="Line of a malformed document.")
    column: int | None = Field(default=None, description="Column of a malformed document.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The entries of OpenAPI for the problems of a route that asks for a key; ``statuses``: those it has besides."""
    return described(401, 403, 404, 422, 429, 503, *statuses)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The entries of OpenAPI for problems with these statuses."""
    found = {status: problems.OF_STATUS[status] for status in statuses}
    return {
        status: {
            "description": problem.title,
            "content": {
                problems.MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/ProblemDetails"},
                    "example": {
                        "type": problem.type,
                        "title": problem.title,
                        "status": status,
                        "detail": problem.title + ".",
                        "instance": "/api/v1/runs/",
                        "action": problem.action,
                    },
                }
            },
        }
        for status, problem in sorted(found.items())
    }
