"""Stands for a model where prompts are built and nothing is sent: a dry run."""

from __future__ import annotations

from dataclasses import dataclass

from thresher.core.errors import ModelUnusable
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.prices import Price


@dataclass(frozen=True, slots=True)
class SilentClient:
    """Has the names and the price of a model; needs no key and no connection."""

    provider: str
    model: str
    price: Price | None
    leaves_machine: bool = True
    takes_batches: bool = True
    fallbacks: tuple[str, ...] = ()

    @property
    def resource(self) -> str | None:
        """Requests would go somewhere, and be counted."""
        return self.model

    def complete(self, request: ModelRequest) -> ModelReply:
        """Refuses.

        Raises:
            ModelUnusable: always.
        """
        raise ModelUnusable(f"A dry run asks nothing, least of all {len(request.user)} characters.")

    def check(self) -> None:
        """Always well: nobody will be asked."""

    def close(self) -> None:
        """Nothing is held."""
