"""Nodes of a run, tries at them, and those that were given up."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from thresher.engine.work import AttemptRecord
from thresher.persistence.repositories.items import DeadLetter, Item


class ItemOut(BaseModel):
    """A node: a subtree of the document, or a piece of one."""

    item_id: int
    path: str = Field(description="Where the subtree stands in the document.")
    stage: str = Field(description="`subtree`, or `piece` of a larger one.")
    status: str = Field(description="pending, running, succeeded, skipped, dead or cancelled.")
    attempts: int
    error_class: str | None
    error_message: str | None
    result: Any = Field(description="What reading it came to: number of facts, confidence.")

    @classmethod
    def of(cls, item: Item) -> Self:
        """An item as it is stored."""
        return cls(
            path=item.key,
            status=item.status.value,
            **{
                name: getattr(item, name)
                for name in ("item_id", "stage", "attempts", "error_class", "error_message", "result")
            },
        )


class AttemptOut(BaseModel):
    """One try at a node."""

    number: int
    status: str = Field(description="succeeded, failed, lost (its process ended) or interrupted.")
    started_at: datetime
    duration_seconds: float
    requests: int
    tokens: int
    cost_usd: float | None = Field(description="null: the price is unknown.")
    error_class: str | None
    error_message: str | None
    raw_answer: str | None = Field(description="The answer, where it could not be used.")

    @classmethod
    def of(cls, attempt: AttemptRecord) -> Self:
        """A try as it is kept."""
        usage = attempt.usage
        return cls(
            number=attempt.number,
            status=attempt.status.value,
            started_at=attempt.started_at,
            duration_seconds=round(attempt.duration, 3),
            requests=usage.requests,
            tokens=usage.prompt_tokens + usage.completion_tokens,
            cost_usd=None if usage.cost_usd is None else round(usage.cost_usd, 6),
            error_class=attempt.error_class,
            error_message=attempt.error_message,
            raw_answer=attempt.raw_answer,
        )


class DeadLetterOut(BaseModel):
    """A node that was given up."""

    item_id: int
    path: str
    error_class: str | None
    error_message: str | None
    attempts: int
    raw_answer: str | None = Field(description="The last answer that could not be used.")

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """A dead letter as it is stored."""
        named = ("item_id", "error_class", "error_message", "attempts", "raw_answer")
        return cls(path=letter.key, **{name: getattr(letter, name) for name in named})
