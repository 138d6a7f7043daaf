"""Documents that are kept, what they are, and what reading them would take."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from thresher.persistence.repositories.sources import Source


class DocumentOut(BaseModel):
    """A document that is kept."""

    source_id: str
    name: str = Field(description="What it was called when it was uploaded first.")
    sha256: str
    size_bytes: int
    created_at: datetime
    used_at: datetime = Field(description="When it was uploaded for the last time.")

    @classmethod
    def of(cls, source: Source) -> Self:
        """A document as it is stored."""
        return cls(**{name: getattr(source, name) for name in cls.model_fields})


class PathOut(BaseModel):
    """All elements at one path. Sizes are bytes of UTF-8."""

    path: str
    count: int
    bytes_min: int
    bytes_median: int
    bytes_max: int
    bytes_total: int
    depth: int
    attributes: list[str]
    chosen: bool = Field(description="Whether it is chosen where nobody says which paths to read.")


class AnalysisOut(BaseModel):
    """What a document is, and which paths its elements stand at."""

    source_id: str = Field(description="The document is kept: runs of it can be begun.")
    name: str
    root: str | None
    version: str | None
    sender: str | None
    namespace: str | None
    encoding: str
    size_bytes: int
    complete: bool = Field(description="false: counts and sizes are those of the first `bytes_read` bytes.")
    bytes_read: int
    chosen: list[str] = Field(description="The paths that are chosen from its structure.")
    nodes: list[dict[str, Any]] = Field(description="The node configurations of the workspace that are meant for it.")
    would_read: list[str] = Field(description="The paths that a run without further options reads.")
    paths: list[PathOut] = Field(description="At most 500, in document order, a parent before its children.")


class RangeOut(BaseModel):
    """An estimate and what it lies between."""

    low: float
    expected: float
    high: float


class LargestOut(BaseModel):
    """A node with a large prompt."""

    node: str
    prompt_bytes: int


class EstimateOut(BaseModel):
    """What a run would take. Nothing was sent, nothing was stored."""

    provider: str
    model: str
    paths: list[str] = Field(description="The paths that would be read.")
    nodes_total: int
    nodes_skipped: int = Field(description="Switched off by their configuration.")
    nodes_without_text: int
    nodes_cached: int = Field(description="Answered by the cache, at no cost.")
    nodes_repeated: int = Field(description="Equal to others of this document.")
    nodes_asked: int = Field(description="Nodes that the model would be asked about.")
    requests: RangeOut
    prompt_tokens: RangeOut
    completion_tokens: RangeOut
    cost_usd: RangeOut | None = Field(description="null: the price of the model is unknown.")
    seconds: RangeOut | None = Field(description="null: no earlier run of this model and no limit to tell by.")
    learned_from_nodes: int = Field(description="Nodes of earlier runs that the estimate rests on.")
    largest: list[LargestOut]
