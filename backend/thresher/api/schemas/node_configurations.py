"""Node configurations: which paths are read, and how."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from thresher.core.text import StorableText
from thresher.persistence.repositories.node_configurations import ConfigurationFilter, StoredNodeConfiguration
from thresher.workflows.discovery import NodeConfiguration
from thresher.workflows.discovery.stored_configurations import from_stored


class NodeConfigurationOut(NodeConfiguration):
    """A node configuration as it is stored."""

    id: int

    @classmethod
    def of(cls, stored: StoredNodeConfiguration) -> Self:
        """One with its number."""
        return cls.model_validate({**from_stored(stored).model_dump(), "id": stored.configuration_id})


class ConfigurationsQuery(BaseModel):
    """Which configurations are meant; what is left out: whatever it is."""

    message: StorableText | None = Field(default=None, description="Only those for exactly this message.")
    version: StorableText | None = Field(default=None, description="Only those for exactly this version.")
    sender: StorableText | None = Field(default=None, description="Only those for exactly this sender.")
    path: StorableText | None = Field(default=None, description="Only those of exactly this path.")

    def filter(self) -> ConfigurationFilter:
        """The same, for the repository."""
        return ConfigurationFilter(self.message, self.version, self.sender, self.path)


class CopyIn(ConfigurationsQuery):
    """Configurations that are to hold for other versions, too."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"message": "OrderViewRS", "version": "19.2", "to_versions": ["21.3"]}]},
    )

    to_versions: list[StorableText] = Field(min_length=1, max_length=100)
    replace: bool = Field(default=False, description="Replace what there is for these versions, instead of keeping it.")


class CopiedOut(BaseModel):
    """How many configurations were copied."""

    copied: int
    kept: int = Field(description="There was one already for the same message, version, sender and path.")


class ImportedOut(BaseModel):
    """How many configurations a file had."""

    imported: int
