"""Errors become problem details: the class of an error decides on the type and the status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from thresher.core import errors
from thresher.core.logging import get_logger
from thresher.operations import problems
from thresher.operations.problems import Problem, problem_of

log = get_logger(__name__)


def add_error_handlers(app: FastAPI) -> None:
    """Answers every error by a problem; none by a traceback."""
    app.add_exception_handler(errors.ThresherError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)


def problem_response(
    request: Request, problem: Problem, detail: str, more: Mapping[str, Any] | None = None, **headers: str
) -> JSONResponse:
    """The answer for a problem; ``more`` are members of its own."""
    body = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": request.url.path,
        "action": problem.action,
        **(more or {}),
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, problem.status, named, problems.MEDIA_TYPE)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    problem = problem_of(error)
    if problem is problems.DEFECT:
        return await _on_defect(request, error)
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, errors.MalformedDocument):
        more = {"line": error.line, "column": error.column}
    if isinstance(error, errors.TooManyRequests):
        headers["Retry_After"] = str(math.ceil(error.retry_after))
    if isinstance(error, errors.Unauthenticated):
        headers["WWW_Authenticate"] = 'Bearer realm="thresher"'
    if problem is problems.UNAVAILABLE:
        headers["Retry_After"] = "5"
    return problem_response(request, problem, str(error), more, **headers)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    found: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
    places = [{"place": ".".join(str(part) for part in one["loc"]), "message": one["msg"]} for one in found]
    detail = "; ".join(f"{one['place']}: {one['message']}" for one in places)
    return problem_response(request, problems.INVALID_REQUEST, detail, {"errors": places})


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    problem = problems.OF_STATUS.get(status, problems.DEFECT if status >= 500 else problems.BAD_INPUT)
    detail = str(error.detail) if isinstance(error, HTTPException) else problem.title
    response = problem_response(request, problem, detail)
    response.headers.update((isinstance(error, HTTPException) and error.headers) or {})
    return response


async def _on_defect(request: Request, error: Exception) -> JSONResponse:
    log.error("request failed", path=request.url.path, method=request.method, exc_info=error)
    return problem_response(request, problems.DEFECT, "The request could not be answered because of a defect.")
