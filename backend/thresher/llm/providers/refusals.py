"""What an OpenAI-compatible server's refusal means: its status and error body, mapped to our errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic_core import from_json

from thresher.core.errors import (
    AuthenticationFailed,
    ModelUnusable,
    PermanentLLMError,
    PromptTooLong,
    QuotaExhausted,
    RateLimited,
    ThresherError,
    TransientLLMError,
)
from thresher.core.limits import ReportedLimits

_SHOWN_CHARACTERS = 240

_QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance", "quota_exceeded"}
)
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
_TOO_LONG_WORDS = ("context length", "context window", "context size", "prompt is too long", "request too large")
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})
_MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound", "invalid_model", "model_not_available"})
_RUN_WIDE_PARAMETERS = ("model", "response_format", "temperature", "max_tokens", "max_completion_tokens")
_TRANSIENT_STATUSES = frozenset({408, 409, 425})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that is no answer.

    ``codes`` are the error's code and type, which servers use for the same words. ``message`` is the server's own,
    in one line and cut to a readable length.
    """

    status: int
    codes: frozenset[str]
    parameter: str
    message: str
    limits: ReportedLimits

    @classmethod
    def of(cls, status: int, body: bytes, limits: ReportedLimits) -> Self:
        """Reads the error forms in use: ``{"error": {...}}``, ``{"error": "..."}``, ``{"message": ...}``, text."""
        try:
            document = from_json(body)
        except ValueError:
            document = None
        error = document.get("error", document) if isinstance(document, dict) else document
        fields = error if isinstance(error, dict) else {"message": error}
        return cls(
            status=status,
            codes=frozenset(str(fields.get(name) or "").lower() for name in ("code", "type")),
            parameter=str(fields.get("param") or "").lower(),
            message=_sentence(fields),
            limits=limits,
        )

    def names(self, parameter: str) -> bool:
        """Whether this parameter of the request is what was refused, by field or, where there is none, by words."""
        if self.status not in (400, 422):
            return False
        if self.parameter:
            return self.parameter.split(".")[0] == parameter
        return parameter in self.message

    def error(self, server: str, model: str) -> ThresherError:
        """The error to raise; ``server`` is its address without credentials."""
        said = f" It said: {self.message}" if self.message else ""
        return self._error(server, model, said).in_own_words(str(self._error(server, model, "")))

    def _error(self, server: str, model: str, said: str) -> ThresherError:
        if self.status in (401, 403):
            return AuthenticationFailed(f"{server} refuses the key ({self.status}): check the key and its rights.")
        if self.codes & _QUOTA_CODES or self.status == 402:
            return QuotaExhausted(f"The account at {server} has no quota or credit left ({self.status}).{said}")
        if self._is_too_long():
            return PromptTooLong(f"{server}: the prompt is too long for {model} ({self.status}).{said}")
        if self.status == 429:
            sentence = f"{server} limits the rate of requests (429).{said}"
            return RateLimited(sentence, retry_after=self.limits.retry_after, limits=self.limits)
        if self.status >= 500 or self.status in _TRANSIENT_STATUSES:
            return TransientLLMError(
                f"{server} failed to answer ({self.status}).{said}", retry_after=self.limits.retry_after
            )
        return self._permanent(server, model, said)

    def _permanent(self, server: str, model: str, said: str) -> ThresherError:
        if self.status in (404, 405):
            return ModelUnusable(
                f'{server} knows no model "{model}" or no such address ({self.status}): '
                f"check model, deployment and base URL.{said}"
            )
        if 300 <= self.status < 400:
            return ModelUnusable(f"{server} redirects to another address ({self.status}): is the base URL right?{said}")
        if self.codes & _FILTER_CODES:
            return PermanentLLMError(f"{server} filtered the request for its content ({self.status}).{said}")
        if self.codes & _MODEL_CODES or self.parameter.split(".")[0] in _RUN_WIDE_PARAMETERS:
            return ModelUnusable(f'{server} accepts no request of this run for model "{model}" ({self.status}).{said}')
        return PermanentLLMError(f"{server} refuses the request ({self.status}).{said}")

    def _is_too_long(self) -> bool:
        if self.status == 413 or self.codes & _TOO_LONG_CODES:
            return True
        words = self.message.lower()
        return self.status in (400, 422, 429) and any(phrase in words for phrase in _TOO_LONG_WORDS)


def _sentence(fields: Mapping[str, Any]) -> str:
    said = fields.get("message") or fields.get("detail") or ""
    line = " ".join(str(said).split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "..."
