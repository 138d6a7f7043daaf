"""Runs, and what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from thresher.engine.budget import Budget
from thresher.engine.work import Counts, Run, RunStatus
from thresher.operations.budgets import BudgetChange
from thresher.operations.run_options import PriorityName, budget_or_none
from thresher.persistence.repositories.workspace_runs import RunFilter, RunOrder, RunProgress


class RunsQuery(BaseModel):
    """Which runs are listed, and in which order."""

    status: list[RunStatus] = Field(default=[], description="Only runs of these states.")
    kind: str | None = None
    source_id: str | None = Field(default=None, description="Only runs of this document.")
    created_from: AwareDatetime | None = None
    created_before: AwareDatetime | None = None
    sort: Literal["-created_at", "created_at", "-status", "status", "-elapsed_seconds", "elapsed_seconds"] = Field(
        default="-created_at", description="`-`: the newest, the last or the longest first."
    )

    def filter(self) -> RunFilter:
        """The same, for the repository."""
        return RunFilter(frozenset(self.status), self.kind, self.source_id, self.created_from, self.created_before)

    @property
    def order(self) -> RunOrder:
        """What is sorted by."""
        return RunOrder(self.sort.removeprefix("-"))


class CountsOut(BaseModel):
    """Nodes by state; they always add up to `total`."""

    total: int
    pending: int
    running: int
    succeeded: int
    skipped: int
    dead: int
    cancelled: int

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """The counts of a run."""
        return cls(total=counts.total, **{name: getattr(counts, name) for name in Counts.__dataclass_fields__})


class RunErrorOut(BaseModel):
    """Why a run failed as a whole."""

    model_config = ConfigDict(populate_by_name=True)

    error_class: str = Field(alias="class")
    message: str


class RunOut(BaseModel):
    """A run, as it is now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "r06ahq2c9k0d1",
                    "kind": "discovery",
                    "workspace": "default",
                    "status": "running",
                    "requested": None,
                    "priority": "normal",
                    "file": "OrderViewRS.xml",
                    "source_id": "d06ahq2c9jz7f",
                    "provider": "openai",
                    "model": "gpt-4o-mini",
                    "mode": "parallel",
                    "mode_reason": "auto: more than 2 nodes",
                    "message_root": "OrderViewRS",
                    "spec_version": "19.2",
                    "sender": "XX",
                    "subtrees_processed": 12,
                    "node_facts_extracted": 12,
                    "nodes": {
                        "total": 30,
                        "pending": 8,
                        "running": 10,
                        "succeeded": 12,
                        "skipped": 0,
                        "dead": 0,
                        "cancelled": 0,
                    },
                    "planning_complete": True,
                    "error": None,
                    "created_at": "2026-11-02T10:00:00Z",
                    "started_at": "2026-11-02T10:00:01Z",
                    "finished_at": None,
                    "elapsed_seconds": 0.0,
                }
            ]
        }
    )

    run_id: str
    kind: str
    workspace: str
    status: str = Field(description="pending, running, paused, succeeded, partial, failed or cancelled.")
    requested: str | None = Field(description="What the run is asked to do: pause or cancel.")
    priority: PriorityName
    file: str | None
    source_id: str | None = Field(description="The document, while it is kept.")
    provider: str | None
    model: str | None
    mode: str
    mode_reason: str
    message_root: str | None
    spec_version: str | None
    sender: str | None
    subtrees_processed: int = Field(description="Nodes that were read.")
    node_facts_extracted: int
    nodes: CountsOut
    planning_complete: bool = Field(description="Whether all nodes are known.")
    error: RunErrorOut | None = Field(description="Why it failed or stopped as a whole.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    elapsed_seconds: float = Field(description="Working time of the sessions that have ended.")

    @classmethod
    def of(cls, run: Run, progress: RunProgress) -> Self:
        """A run, and how far it is."""
        details: dict[str, Any] = {name: run.details.get(name) for name in ("message_root", "spec_version", "sender")}
        named = ("run_id", "kind", "workspace", "provider", "model", "mode_reason", "planning_complete", "source_id")
        times = ("created_at", "started_at", "finished_at", "elapsed_seconds")
        return cls(
            **{name: getattr(run, name) for name in (*named, *times)},
            **details,
            status=run.status.value,
            requested=run.requested.value if run.requested else None,
            priority=run.priority.label,  # type: ignore[arg-type] # one of the three
            file=None if run.source.get("name") is None else str(run.source["name"]),
            mode=run.mode.value,
            subtrees_processed=progress.counts.succeeded,
            node_facts_extracted=progress.facts,
            nodes=CountsOut.of(progress.counts),
            error=None if run.error is None else RunErrorOut.model_validate(dict(run.error)),
        )


class RetryIn(BaseModel):
    """Which nodes are tried again; what is left out means all that failed."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"error_classes": ["RateLimited"]}, {"items": ["412"]}, {}]}
    )

    items: Sequence[str] = Field(default=[], max_length=1000, description="Nodes by path or number.")
    error_classes: Sequence[str] = Field(default=[], max_length=100, description="Only those that failed with these.")
    cancelled: bool = Field(default=False, description="Also cancelled nodes, and the rest of a cancelled run.")


class ResumeIn(BaseModel):
    """How a run goes on; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"budget": "$2"}, {"budget": None}, {}]})

    budget: str | None = Field(
        default=None,
        max_length=40,
        description="What the whole run may spend, with what it has spent: `$0.50`, `200ktokens`; null: what it takes.",
    )

    _budget_is_one = field_validator("budget")(budget_or_none)

    def change(self) -> BudgetChange | None:
        """The new budget; None: it stays."""
        if "budget" not in self.model_fields_set:
            return None
        return BudgetChange(None if self.budget is None else Budget.parse(self.budget))


class RetriedOut(BaseModel):
    """How many nodes are tried again."""

    retried: int
    run: RunOut
