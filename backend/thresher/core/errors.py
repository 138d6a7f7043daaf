"""Every error of Thresher; the class of an error decides what happens next.

``BadInput``        the user can mend it: one sentence, exit code 2, nothing stored as if it were whole.
``RetryableError``  the same item may succeed later: tried again within its bound.
``PermanentError``  the same item can never succeed: a dead letter at once.
``FatalError``      no item of the run can succeed: the run fails at once, the other items stay pending.
"""

from __future__ import annotations

from typing import ClassVar, Self

from thresher.core.limits import ReportedLimits


class ThresherError(Exception):
    """Root of all errors that Thresher raises on purpose.

    The message is written for people, whichever way they came: what was wrong, where, and what to do. Commands stand
    in ``hint``. It may quote a document, an answer or a server. Logs, metrics and spans say only what is in our
    ``own_words``.
    """

    quotes_nothing: ClassVar[bool] = False  # of the messages of a class
    hint: str | None = None  # what to do at a terminal: only the command line says it
    _own_words: str | None = None

    def with_hint(self, hint: str) -> Self:
        """The same error with a sentence for whoever sits at a terminal."""
        self.hint = hint
        return self

    def in_own_words(self, words: str | None = None) -> Self:
        """The same error; ``words`` (None: its message as it is) quote nothing and may stand in logs."""
        self._own_words = str(self) if words is None else words
        return self

    @property
    def own_words(self) -> str | None:
        """What may stand in logs, None where the message quotes others."""
        return str(self) if self.quotes_nothing else self._own_words


def own_words(error: BaseException) -> str | None:
    """What logs may say of an error besides its class; None where that is all."""
    return error.own_words if isinstance(error, ThresherError) else None


class BadInput(ThresherError):
    """Raised when something the user gave (file, path, option, setting) cannot be used."""


class MalformedDocument(BadInput):
    """Raised when a document is not well-formed XML.

    ``line`` and ``column`` count from 1 and are 0 where the place is unknown.
    """

    def __init__(self, message: str, *, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class UnsafeDocument(MalformedDocument):
    """Raised when a document declares entities or is over a bound on depth, size, attributes or ratio."""


class NothingMatched(BadInput):
    """Raised when no element of the document is matched by the paths asked for."""


class BadConfiguration(BadInput):
    """Raised when a setting, a command line option or a configuration file is unusable."""


class NotFound(BadInput):
    """Raised when an identifier names nothing."""


class StateConflict(BadInput):
    """Raised when what was asked for does not fit the state of the run."""


class TooLarge(BadInput):
    """Raised when what somebody sends is larger than the server takes."""


class UnsupportedDocument(BadInput):
    """Raised when a document is of another kind than XML, plain or gzipped."""


class Unauthenticated(BadInput):
    """Raised when a key is needed and there is none that is valid."""


class Forbidden(BadInput):
    """Raised when a key does not let its holder do this."""


class ForeignHost(Forbidden):
    """Raised when the server is asked under a name that is not known to be its own."""


class ForeignOrigin(Forbidden):
    """Raised when a browser sends something for a page of another site."""


class TooManyRequests(BadInput):
    """Raised when a key is used more often than it may be; ``retry_after`` in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DatabaseUnusable(BadInput):
    """Raised when the database cannot be opened, is of another version, or cannot be written."""


class RetryableError(ThresherError):
    """Raised when the same item may succeed later.

    ``retry_after`` is the time in seconds that the other side asked for, None where it named none.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Postponed(RetryableError):
    """Raised when the other side, and not the item, is why it has to wait: it does not count as the item's failure."""


class ResourceUnavailable(Postponed):
    """Raised when the one request failed that was sent to see whether a resource is back."""


class PermanentError(ThresherError):
    """Raised when the same item can never succeed."""


class FatalError(ThresherError):
    """Raised when no item of the run can succeed (a wrong key, no quota, a full disk)."""


class BudgetExhausted(FatalError):
    """Raised when the next request may cost more than is left of the run's budget: the run is paused, not failed."""


class ResourceGone(FatalError):
    """Raised when a resource has answered nothing for longer than a run waits (``BreakerPolicy.patience``)."""

    quotes_nothing = True


class AddressForbidden(PermanentError):
    """Raised when an address leads to where nobody may send this server: another scheme, a private network."""


class PageUnreachable(RetryableError):
    """Raised when another web server does not answer, not in time, or says that it cannot for now (429, 5xx)."""


class PageRefused(PermanentError):
    """Raised when another web server answers that it will never give or take this (4xx), or answers too much."""


class DatabaseUnavailable(RetryableError):
    """Raised when the database does not answer for now (connection lost, locked for too long)."""

    quotes_nothing = True


class StorageFailed(FatalError):
    """Raised when the database can no longer be written (disk full, read-only, corrupt)."""

    quotes_nothing = True


class TransientLLMError(RetryableError):
    """Raised when a model request failed in a way that may pass: connection, time-out, 5xx, 408, 409.

    ``may_be_billed``: it was sent and no reply came, so that nobody knows what it took.
    """

    may_be_billed: bool = False

    def sent_unanswered(self) -> Self:
        """The same error of a request that was sent."""
        self.may_be_billed = True
        return self


class RateLimited(TransientLLMError, Postponed):
    """Raised when the model's server refused a request because of a rate limit (429).

    ``limits`` is what its headers said, None where they were silent.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, limits: ReportedLimits | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limits = limits


class ModelUnreachable(FatalError):
    """Raised before a run starts when the model's server cannot be reached or does not speak the protocol."""


class ModelUnusable(FatalError):
    """Raised when the server accepts no request of this run: unknown model or address, refused parameter or schema."""


class AuthenticationFailed(FatalError):
    """Raised when the model's server refuses the key (401, 403)."""


class QuotaExhausted(FatalError):
    """Raised when the account at the model's server has no quota or credit left."""


class PermanentLLMError(PermanentError):
    """Raised when a model request can never succeed as it is (400, 404, 413, 422, refusal, content filter)."""


class PromptTooLong(PermanentLLMError):
    """Raised when a prompt is longer than the model's context or the server's bound: a smaller subtree may fit."""


class UnusableAnswer(PermanentError):
    """Raised when the answer ladder is exhausted: the answer is not what the schema asks for."""


class NotAnswered(UnusableAnswer):
    """Raised when the answer to a batch says nothing usable of one of its items: it is asked about again."""


class AnswerTruncated(RetryableError):
    """Raised when an answer was cut by its length: the subtree is split, or asked again where it cannot be."""
