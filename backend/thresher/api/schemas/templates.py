"""Templates: named sets of options."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from thresher.core.text import StorableText
from thresher.operations.run_options import RunOptionsIn
from thresher.persistence.repositories.templates import NewTemplate, Template

Name = Annotated[StorableText, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class TemplateIn(BaseModel):
    """A template to be."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "passengers", "options": {"paths": ["DataLists/PaxList/Pax"], "budget": "$0.50"}}]
        },
    )

    name: Name
    description: StorableText | None = Field(default=None, max_length=2_000)
    options: RunOptionsIn = Field(default_factory=RunOptionsIn, description="Of each run.")

    def new(self) -> NewTemplate:
        """The same, for the repository."""
        return NewTemplate(self.name, self.options.to_json(), self.description)


class TemplateOut(BaseModel):
    """A template as it is stored."""

    template_id: str
    name: str
    description: str | None
    options: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, template: Template) -> Self:
        """A template as it is stored."""
        return cls.model_validate({name: getattr(template, name) for name in cls.model_fields})
