"""What people can do about nodes that were given up, by the class of their last error."""

from __future__ import annotations

from typing import Final

from thresher.core import errors
from thresher.persistence.repositories.store import WORKER_LOST

_OF_CLASS: Final[dict[type[Exception], str]] = {
    errors.NotAnswered: (
        "The model left this node out of an answer about several. Retry it: alone it is asked about by itself."
    ),
    errors.UnusableAnswer: (
        "The model's answers do not fit the schema, also when it was told what is wrong. Look at a raw "
        "answer: simpler instructions, a simpler schema or a stronger model help; a retry alone seldom does."
    ),
    errors.AnswerTruncated: (
        "The answers were longer than MAX_OUTPUT_TOKENS lets them be. Raise it, or ask for less of each node,"
        " then retry."
    ),
    errors.PromptTooLong: (
        "The node is larger than the model takes. Lower MAX_SUBTREE_BYTES, or use a model with more room, and"
        " read the document again."
    ),
    errors.RateLimited: (
        "The model's server had no room for these requests. Retry them when it is less busy, or set "
        "REQUESTS_PER_MINUTE."
    ),
    errors.PermanentLLMError: (
        "The model's server refuses these requests as they are, by a filter or by what they hold. Read what "
        "it said; change the instructions or the model, then retry."
    ),
    errors.TransientLLMError: (
        "The model's server failed or did not answer in time, more often than MAX_RETRIES allows. When it is "
        "well again, retry: nothing else has to change."
    ),
    errors.DatabaseUnavailable: "The database was away for too long. When it answers again, retry.",
    errors.PermanentError: "As it is this can never succeed: change what the message names, then retry.",
    errors.RetryableError: "This may pass by itself: retry in a while.",
    errors.BadInput: "Something of the document or of its configuration is unusable: mend what is named, then retry.",
    errors.FatalError: "This held the whole run up. Mend what the message names, then retry.",
}
_LOST: Final = (
    "The process that had these nodes in hand died again and again: out of memory, or killed. Look at its log,"
    " read fewer nodes at once (MAX_PARALLEL_NODES), then retry."
)
_DEFECT: Final = (
    "This is a defect of Thresher, or of the machine, and none of your document. Retry once; if it stays, "
    "report class, message and the log of the server."
)


def advice_on(error_class: str | None) -> str:
    """One or two sentences about an error class, as rows have its name."""
    if error_class == WORKER_LOST:
        return _LOST
    known = getattr(errors, error_class or "", None)
    if not isinstance(known, type):
        return _DEFECT
    return next((_OF_CLASS[kind] for kind in known.__mro__ if kind in _OF_CLASS), _DEFECT)
