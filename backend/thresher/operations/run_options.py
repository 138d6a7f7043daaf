"""Options of runs as JSON: what the API takes, what templates and batches keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from thresher.core.config import ProcessingMode
from thresher.core.errors import BadConfiguration, BadInput
from thresher.core.text import StorableText
from thresher.engine.budget import Budget
from thresher.engine.work import Priority
from thresher.operations.runs import RunOptions
from thresher.workflows.discovery import NodeConfiguration, parse_paths

PriorityName = Literal["immediate", "normal", "low"]


def budget_or_none(value: str | None) -> str | None:
    """A budget as it is written.

    Raises:
        ValueError: it is none.
    """
    try:
        return None if value is None else str(Budget.parse(value))
    except BadConfiguration as error:
        raise ValueError(str(error)) from error


class RunOptionsIn(BaseModel):
    """How a document is to be read."""

    model_config = ConfigDict(extra="forbid")

    paths: list[StorableText] = Field(
        default=[], max_length=1000, description="Subtrees to read; none: chosen from the structure of the document."
    )
    nodes: list[NodeConfiguration] = Field(
        default=[], max_length=1000, description="Node configurations: which paths are read, and how."
    )
    stored_nodes: bool = Field(
        default=True, description="Use the node configurations of the workspace where no `nodes` are given."
    )
    limit: int | None = Field(default=None, ge=1, description="Only so many subtrees.")
    mode: ProcessingMode | None = Field(default=None, description="As the server is set, if it is missing.")
    priority: PriorityName = "normal"
    notify: list[StorableText] = Field(
        default=[],
        max_length=20,
        description="Names of channels that are told of the end: of the run, or of the batch.",
    )
    budget: str | None = Field(
        default=None, max_length=40, description="What the run may spend: `$0.50` or `200ktokens`."
    )

    @field_validator("paths")
    @classmethod
    def _paths_are_readable(cls, value: list[str]) -> list[str]:
        try:
            parse_paths(value)
        except BadConfiguration as error:
            raise ValueError(str(error)) from error
        return value

    _budget_is_one = field_validator("budget")(budget_or_none)

    def options(self) -> RunOptions:
        """The same, for the operations."""
        return RunOptions(
            self.paths,
            self.nodes,
            self.limit,
            self.mode,
            Priority[self.priority.upper()],
            None if self.budget is None else Budget.parse(self.budget),
            self.stored_nodes,
            tuple(self.notify),
        )

    def to_json(self) -> dict[str, Any]:
        """What was said, as it is kept."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @classmethod
    def of_json(cls, *kept: Mapping[str, Any]) -> Self:
        """Options that were kept; of several the later ones win.

        Raises:
            BadInput: they are not usable (any more).
        """
        try:
            return cls.model_validate({name: value for some in kept for name, value in some.items()})
        except ValidationError as error:
            places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise BadInput(f"These options cannot be used: {places}.") from error
