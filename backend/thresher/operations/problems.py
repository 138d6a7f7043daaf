"""What can go wrong, as RFC 9457 problem details: each problem with a stable type that can be looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from thresher.core import errors

MEDIA_TYPE: Final = "application/problem+json"
TYPES: Final = "/problems"  # the folder of the types; each is an address on this server that explains it


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of problem. ``action``: what the one who asked can do."""

    name: str
    status: int
    title: str
    action: str

    @property
    def type(self) -> str:
        """The type of RFC 9457: an address relative to this server, which never changes."""
        return f"{TYPES}/{self.name}"


BAD_INPUT = Problem("bad-input", 422, "The input cannot be used", "Change what `detail` names, then send it again.")
INVALID_REQUEST = Problem(
    "invalid-request", 422, "The request is not as it is described", "Mend the places in `errors`; see /openapi.json."
)
MALFORMED_DOCUMENT = Problem(
    "malformed-document", 422, "The document is not well-formed XML", "Mend it at `line` and `column`, then upload it."
)
UNAUTHENTICATED = Problem(
    "unauthenticated",
    401,
    "A valid key is needed",
    "Send `Authorization: Bearer KEY`; `thresher keys create` makes one.",
)
FORBIDDEN = Problem("forbidden", 403, "The key does not allow this", "Use a key with the role write.")
FOREIGN_HOST = Problem(
    "foreign-host", 403, "The server is not known by this name", "Ask it by its address, or set SERVE_ALLOWED_HOSTS."
)
FOREIGN_ORIGIN = Problem(
    "foreign-origin", 403, "This came from a page of another site", "Use the pages of this server, or no browser."
)
NOT_FOUND = Problem("not-found", 404, "There is no such thing", "Check the identifier; the lists show what there is.")
METHOD_NOT_ALLOWED = Problem(
    "method-not-allowed", 405, "This address does not take the method", "See /openapi.json for what it takes."
)
TOO_SLOW = Problem("too-slow", 408, "The request came too slowly", "Send it again, over a better connection.")
STATE_CONFLICT = Problem(
    "state-conflict", 409, "The state does not allow this", "Look at its state; `detail` says what would be possible."
)
TOO_LARGE = Problem(
    "too-large",
    413,
    "Too large",
    "Send less, or have MAX_UPLOAD_BYTES (or the key's own bound) or MAX_BODY_BYTES raised.",
)
UNSUPPORTED = Problem(
    "unsupported-media-type",
    415,
    "This kind of content is not taken",
    "Send XML, plain or gzipped, as `file` of a form.",
)
TOO_MANY_REQUESTS = Problem(
    "too-many-requests", 429, "The key was used too often", "Wait for the seconds of `Retry-After`, then ask again."
)
HEAD_TOO_LARGE = Problem("head-too-large", 431, "Address and headers are too large", "Send a shorter address.")
UNAVAILABLE = Problem(
    "unavailable", 503, "The service cannot answer for now", "Ask again in a while; /ready says what is missing."
)
DEFECT = Problem(
    "defect",
    500,
    "Something is wrong on our side",
    "Ask again; if it stays, report `correlation_id`: the log has it, too.",
)

PROBLEMS: Final = {
    problem.name: problem
    for problem in (
        BAD_INPUT,
        INVALID_REQUEST,
        MALFORMED_DOCUMENT,
        UNAUTHENTICATED,
        FORBIDDEN,
        FOREIGN_HOST,
        FOREIGN_ORIGIN,
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        TOO_SLOW,
        STATE_CONFLICT,
        TOO_LARGE,
        UNSUPPORTED,
        TOO_MANY_REQUESTS,
        HEAD_TOO_LARGE,
        UNAVAILABLE,
        DEFECT,
    )
}
OF_STATUS: Final = {
    problem.status: problem for problem in reversed(PROBLEMS.values()) if problem is not MALFORMED_DOCUMENT
}

# The first class that fits decides: the more special ones come first.
OF_CLASS: Final[tuple[tuple[type[Exception], Problem], ...]] = (
    (errors.TooLarge, TOO_LARGE),
    (errors.UnsupportedDocument, UNSUPPORTED),
    (errors.MalformedDocument, MALFORMED_DOCUMENT),
    (errors.Unauthenticated, UNAUTHENTICATED),
    (errors.ForeignHost, FOREIGN_HOST),
    (errors.ForeignOrigin, FOREIGN_ORIGIN),
    (errors.Forbidden, FORBIDDEN),
    (errors.NotFound, NOT_FOUND),
    (errors.StateConflict, STATE_CONFLICT),
    (errors.TooManyRequests, TOO_MANY_REQUESTS),
    (errors.DatabaseUnusable, UNAVAILABLE),
    (errors.BadInput, BAD_INPUT),
    (errors.DatabaseUnavailable, UNAVAILABLE),
    (errors.StorageFailed, UNAVAILABLE),
)


def problem_of(error: Exception) -> Problem:
    """The problem that an error is."""
    return next((problem for kind, problem in OF_CLASS if isinstance(error, kind)), DEFECT)
