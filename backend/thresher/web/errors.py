"""Errors as pages that say what was wrong and what to do; as the text of a message where a part of a page asked."""

from __future__ import annotations

import math
from typing import Final
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from thresher.core import errors
from thresher.operations import problems
from thresher.operations.problems import Problem, problem_of
from thresher.web.rendering import redirect, render

_ADVICE: Final = {
    problems.NOT_FOUND: "It may have been deleted, or be of another workspace. The list of runs shows what there is.",
    problems.FORBIDDEN: "Go back, load the page anew, and try again; or sign in with a key that may do it.",
    problems.STATE_CONFLICT: "Somebody, or the run itself, was quicker. Look at the run again.",
    problems.TOO_LARGE: "Send a smaller document, or ask for a higher limit (MAX_UPLOAD_BYTES).",
    problems.UNSUPPORTED: "Choose an XML file, plain or packed with gzip.",
    problems.MALFORMED_DOCUMENT: "Mend the document at that place, then upload it again.",
    problems.TOO_MANY_REQUESTS: "Wait a moment, then load the page again.",
    problems.UNAVAILABLE: "Nothing is lost. Load the page again in a while.",
    problems.DEFECT: "Nothing is lost. Try again; if it stays, report the time and the address of this page.",
}
_SAID: Final = {404: "There is no page at this address.", 405: "This address cannot be opened like that."}
_CHANGE_IT = "Go back and change what is named above."


def add_error_pages(app: FastAPI) -> None:
    """Answers every error by a page; what is none of ours is left to ``Defects``."""
    app.add_exception_handler(errors.Unauthenticated, _on_stranger)
    app.add_exception_handler(errors.ThresherError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)


def error_page(request: Request, problem: Problem, detail: str) -> Response:
    """The page of a problem; for a part of a page only the message."""
    template = "_error.html" if request.headers.get("hx-request") else "error.html"
    advice = _ADVICE.get(problem, _CHANGE_IT)
    return render(request, template, status=problem.status, problem=problem, detail=detail, advice=advice)


async def _on_stranger(request: Request, _error: Exception) -> Response:
    """Who has to sign in is sent to where it can be done, and comes back afterwards."""
    following = request.url.path if request.method == "GET" and not request.headers.get("hx-request") else "/"
    return redirect(request, f"/sign-in?next={quote(following, safe='')}")


async def _on_error(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem is problems.DEFECT:
        raise error
    response = error_page(request, problem, str(error))
    if isinstance(error, errors.TooManyRequests):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    return response


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    detail = "; ".join(f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in found)
    return error_page(request, problems.INVALID_REQUEST, detail)


async def _on_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    problem = problems.OF_STATUS.get(status, problems.DEFECT if status >= 500 else problems.BAD_INPUT)
    detail = _SAID.get(status, "The request could not be answered.")
    return error_page(request, problem, detail)


def answer_to_defect(connection: HTTPConnection, number: str) -> Response:
    """The page of a defect, with the number under which the log has it."""
    detail = f"The page could not be made because of a defect, which the log of the server has as {number}."
    return error_page(Request(connection.scope), problems.DEFECT, detail)
