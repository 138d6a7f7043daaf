"""Errors become problem details: the class of an error decides on the type and the status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ValidationException, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import compile_path

from thresher.core import errors
from thresher.core.logging import get_logger
from thresher.operations import problems
from thresher.operations.problems import Problem, problem_of

log = get_logger(__name__)


def add_error_handlers(app: FastAPI) -> None:
    """Answers every error by a problem; what is none of ours is left to ``Defects``."""
    app.add_exception_handler(errors.ThresherError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(WebSocketRequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)


def problem_response(
    connection: HTTPConnection, problem: Problem, detail: str, more: Mapping[str, Any] | None = None, **headers: str
) -> JSONResponse:
    """The answer for a problem; ``more`` are members of its own."""
    body = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": connection.url.path,
        "action": problem.action,
        **(more or {}),
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, problem.status, named, problems.MEDIA_TYPE)


def answer_to(connection: HTTPConnection, error: errors.ThresherError) -> JSONResponse:
    """The answer for an error that was raised on purpose."""
    problem = problem_of(error)
    if problem is problems.DEFECT:
        raise error
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
    return problem_response(connection, problem, str(error), more, **headers)


def answer_to_defect(connection: HTTPConnection, number: str) -> JSONResponse:
    """Answers a defect by a problem with the ``correlation_id`` that the log has for it."""
    detail = "The request could not be answered because of a defect."
    return problem_response(connection, problems.DEFECT, detail, {"correlation_id": number})


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, errors.ThresherError):
        raise error
    return answer_to(request, error)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    found: Sequence[Any] = error.errors() if isinstance(error, ValidationException) else ()
    places = [{"place": ".".join(str(part) for part in one["loc"]), "message": one["msg"]} for one in found]
    detail = "; ".join(f"{one['place']}: {one['message']}" for one in places)
    return problem_response(request, problems.INVALID_REQUEST, detail, {"errors": places})


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    problem = problems.OF_STATUS.get(status, problems.DEFECT if status >= 500 else problems.BAD_INPUT)
    detail = str(error.detail) if isinstance(error, HTTPException) else problem.title
    response = problem_response(request, problem, detail)
    response.headers.update((isinstance(error, HTTPException) and error.headers) or {})
    if status == 405 and (methods := _methods_of(request)):
        response.headers["Allow"] = ", ".join(methods)
    return response


def _methods_of(request: Request) -> Sequence[str]:
    """What an address takes, by all routes that have it; the framework tells that of the first one."""
    app: FastAPI = request.app
    described: Mapping[str, Mapping[str, Any]] = app.openapi()["paths"]
    path = request.scope["path"]
    templates = [path] if path in described else [one for one in described if compile_path(one)[0].match(path)]
    return sorted(method.upper() for template in templates for method in described[template])
