"""The types of problems, explained at their own addresses."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from thresher.api.schemas.problems import described
from thresher.core.errors import NotFound
from thresher.operations.problems import PROBLEMS, TYPES, Problem

router = APIRouter(prefix=TYPES, tags=["problems"])


class ProblemType(BaseModel):
    """A kind of problem."""

    type: str
    title: str
    status: int
    action: str


@router.get("/", operation_id="list_problem_types", summary="All types of problems")
def get_types() -> list[ProblemType]:
    """Every `type` that a problem can have."""
    return [_shown(problem) for problem in PROBLEMS.values()]


@router.get("/{name}", operation_id="get_problem_type", summary="A type of problem", responses=described(404))
def get_type(name: str) -> ProblemType:
    """What a `type` means, and what to do."""
    if name not in PROBLEMS:
        raise NotFound(f"There is no type of problem {name!r}.")
    return _shown(PROBLEMS[name])


def _shown(problem: Problem) -> ProblemType:
    return ProblemType(type=problem.type, title=problem.title, status=problem.status, action=problem.action)
