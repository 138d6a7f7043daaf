"""The port to a model: what is asked, what is answered, who answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from thresher.core.limits import SILENT, ReportedLimits
from thresher.engine.work import Usage
from thresher.llm.prices import Price
from thresher.llm.schema import ResponseSchema

_CHARACTERS_PER_TOKEN = 3.5  # of XML
_USUAL_ANSWER = 400  # tokens
if TYPE_CHECKING:
    from thresher.llm.evidence import Evidence


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model.

    ``system`` and ``schema`` are the same objects for a whole run: they stand first in the prompt, so that a
    provider's prefix cache hits, and their encoding is kept. ``user`` is context lines and then the subtree;
    ``subtree`` is the XML exactly as it stands in ``user``. ``history`` holds (role, content) of a re-ask, in
    order, after ``user``; ``examples`` holds (question, answer) turns that stand before it, constant for a run.
    ``expected_tokens``: of the answer, about.
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
    expected_tokens: float = _USUAL_ANSWER
    evidence: Evidence | None = field(default=None, compare=False, repr=False)

    @property
    def estimated_tokens(self) -> float:
        """Tokens of prompt and answer, roughly: what the limiter reserves, and corrects by what was really used."""
        turns = (*self.history, *self.examples)
        characters = len(self.system) + len(self.user) + sum(len(first) + len(second) for first, second in turns)
        return estimated_tokens(characters) + min(self.max_output_tokens, self.expected_tokens)


def estimated_tokens(characters: int) -> float:
    """Tokens of so many characters of prompt or answer, roughly."""
    return characters / _CHARACTERS_PER_TOKEN


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
    limits: ReportedLimits = SILENT
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
    def resource(self) -> str | None:
        """The key of the limits that its requests share; None where there is nothing to share."""

    @property
    def price(self) -> Price | None:
        """The most that its tokens cost; None where that is unknown."""

    @property
    def leaves_machine(self) -> bool:
        """False where nothing of a request leaves this process, so that nothing needs masking."""

    @property
    def takes_batches(self) -> bool:
        """Whether one request may hold several subtrees: whether it understands that each has an answer of its own."""

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
