"""Batches, and what is asked of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thresher.api.schemas.runs import CountsOut
from thresher.api.schemas.templates import Name
from thresher.core.text import StorableText
from thresher.operations.batches import MOST_DOCUMENTS
from thresher.operations.run_options import PriorityName, RunOptionsIn
from thresher.persistence.repositories.batches import (
    Batch,
    BatchDocument,
    BatchProgress,
    DocumentCounts,
    NewDocument,
)


class DocumentIn(BaseModel):
    """A document: at an address, or one that is kept."""

    model_config = ConfigDict(extra="forbid")

    url: StorableText | None = Field(default=None, max_length=2_000, description="http or https.")
    source_id: StorableText | None = Field(default=None, max_length=40)
    name: Name | None = Field(default=None, description="What people call it.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.url is None) is (self.source_id is None):
            raise ValueError("either url or source_id is needed")
        return self

    def new(self) -> NewDocument:
        """The same, for the operations."""
        return NewDocument(self.name or "", self.url, self.source_id)


class DocumentsIn(BaseModel):
    """Which documents are read."""

    model_config = ConfigDict(extra="forbid")

    urls: list[StorableText] = Field(default=[], max_length=MOST_DOCUMENTS, description="Addresses of documents.")
    documents: list[DocumentIn] = Field(default=[], max_length=MOST_DOCUMENTS, description="Documents one by one.")

    def new_documents(self) -> list[NewDocument]:
        """Both, in this order."""
        return [*(NewDocument("", url) for url in self.urls), *(document.new() for document in self.documents)]


class BatchIn(DocumentsIn):
    """A batch to be."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"urls": ["https://example.com/one.xml"], "options": {"priority": "low"}, "name": "nightly"}]
        },
    )

    name: Name | None = None
    template: Name | None = Field(default=None, description="A template, by its name: `options` win over its own.")
    options: RunOptionsIn = Field(default_factory=RunOptionsIn, description="Of each run.")


class DocumentCountsOut(BaseModel):
    """Documents by how far they are; they always add up to `total`."""

    total: int
    waiting: int
    fetching: int
    pending: int
    running: int
    paused: int
    succeeded: int
    partial: int
    failed: int
    cancelled: int
    duplicate: int
    deleted: int

    @classmethod
    def of(cls, counts: DocumentCounts) -> Self:
        """The counts of a batch."""
        return cls(**{name: getattr(counts, name) for name in cls.model_fields})


class BatchOut(BaseModel):
    """A batch, as it is now."""

    batch_id: str
    workspace: str
    name: str | None
    template: str | None
    schedule_id: str | None = Field(description="The schedule that began it.")
    status: str = Field(description="pending, running, paused, succeeded, partial, failed or cancelled.")
    requested: str | None = Field(description="What it is asked to do: pause or cancel.")
    priority: PriorityName
    documents: DocumentCountsOut
    nodes: CountsOut = Field(description="Of all its runs so far.")
    node_facts_extracted: int
    options: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, batch: Batch, progress: BatchProgress) -> Self:
        """A batch, and how far it is."""
        named = ("batch_id", "workspace", "name", "template", "schedule_id", "created_at", "finished_at")
        return cls(
            **{name: getattr(batch, name) for name in named},
            status=progress.documents.status(batch.requested).value,
            requested=batch.requested.value if batch.requested else None,
            priority=batch.priority.label,  # type: ignore[arg-type] # one of the three
            documents=DocumentCountsOut.of(progress.documents),
            nodes=CountsOut.of(progress.runs.counts),
            node_facts_extracted=progress.runs.facts,
            options=dict(batch.options),
        )


class BatchDocumentOut(BaseModel):
    """A document of a batch."""

    number: int
    name: str
    url: str | None
    source_id: str | None
    run_id: str | None
    status: str = Field(description="waiting, fetching, failed, cancelled, duplicate, deleted, or that of its run.")
    duplicate_of: int | None = Field(description="The number of the document that is read in its place.")
    attempts: int = Field(description="How often it was fetched.")
    error_class: str | None
    error_message: str | None

    @classmethod
    def of(cls, document: BatchDocument) -> Self:
        """A document as it is stored."""
        named = [name for name in cls.model_fields if name != "status"]
        return cls(status=document.state, **{name: getattr(document, name) for name in named})


class RetryBatchIn(BaseModel):
    """What is tried again."""

    model_config = ConfigDict(extra="forbid")

    cancelled: bool = Field(default=False, description="Also what was cancelled.")


class RetriedBatchOut(BaseModel):
    """How many documents are tried again."""

    retried: int
    batch: BatchOut
