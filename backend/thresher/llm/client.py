"""The port to a model: what is asked, what is answered, who answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from thresher.engine.work import Usage
from thresher.llm.schema import ResponseSchema

if TYPE_CHECKING:
    from thresher.llm.evidence import Evidence


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model.

    ``system`` and ``schema`` are the same objects for a whole run: they stand first in the prompt, so that a
    provider's prefix cache hits, and their encoding is kept. ``user`` is context lines and then the subtree;
    ``subtree`` is the XML exactly as it stands in ``user``. ``history`` holds (role, content) of a re-ask, in
    order, after ``user``; ``examples`` holds (question, answer) turns that stand before it, constant for a run.
    ``evidence`` is what ``subtree`` says, where it was read already: a client on this machine need not read it again.
    """

    system: str
    user: str
    subtree: str
    schema: ResponseSchema
    max_output_tokens: int
    temperature: float = 0.0
    history: tuple[tuple[str, str], ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    evidence: Evidence | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """What a reply said of the limits (``x-ratelimit-*``): counts per window, and seconds until a window resets.

    None where the reply was silent. ``retry_after`` is the server's own wish, in seconds.
    """

    limit_requests: int | None = None
    limit_tokens: int | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests: float | None = None
    reset_tokens: float | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model answered.

    ``finish_reason`` is the provider's word: "stop", "length", "content_filter"; empty where none was given.
    ``usage`` counts every request that was sent for this reply. ``refusal`` is the model's own sentence where
    it declined to answer; ``text`` is empty then, and where the reply held nothing.
    """

    text: str
    finish_reason: str
    model: str
    usage: Usage
    request_id: str | None = None
    limits: RateHeaders = RateHeaders()
    refusal: str | None = None


class ModelClient(Protocol):
    """Who answers. One per process, shared by all worker threads."""

    @property
    def provider(self) -> str:
        """The name under which rows say who answered."""

    @property
    def model(self) -> str:
        """The model that is asked for."""

    @property
    def leaves_machine(self) -> bool:
        """False where nothing of a request leaves this process, so that nothing needs masking."""

    @property
    def fallbacks(self) -> Sequence[str]:
        """What the server would not take and what is sent instead, a sentence each, in the order it happened."""

    def complete(self, request: ModelRequest) -> ModelReply:
        """Asks once: no retry of its own, so that the engine's limiter sees every request.

        Raises:
            TransientLLMError, RateLimited: may pass; ``retry_after`` where the server named a time.
            PromptTooLong, PermanentLLMError: this request can never succeed.
            AuthenticationFailed, QuotaExhausted, ModelUnusable: no request of the run can succeed.
        """

    def check(self) -> None:
        """Finds out within about five seconds whether asking makes sense; costs nothing.

        Raises:
            ModelUnreachable: nobody answers, or who answers does not speak the protocol.
            AuthenticationFailed: the key is refused.
        """

    def close(self) -> None:
        """Gives the connections back; the client cannot be used after this."""
