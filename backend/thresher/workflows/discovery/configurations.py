"""Which paths are read, and how: node configurations."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from thresher.core.errors import BadConfiguration
from thresher.core.text import StorableText, require_storable
from thresher.llm.schema import RecordSchema
from thresher.workflows.discovery.subtrees import Detection, parse_paths


class NodeConfiguration(BaseModel):
    """How the subtrees of one path are read.

    ``message``, ``version`` and ``sender`` limit it to documents that are detected as such; where they are
    missing it holds for all. ``record_schema`` is a JSON Schema of the record wanted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    path: StorableText = Field(min_length=1)
    message: StorableText | None = None
    version: StorableText | None = None
    sender: StorableText | None = None
    instructions: StorableText | None = None
    record_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    enabled: bool = True

    @field_validator("path")
    @classmethod
    def _path_is_readable(cls, value: str) -> str:
        try:
            parse_paths([value])
        except BadConfiguration as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("record_schema")
    @classmethod
    def _schema_is_usable(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            if value is not None:
                RecordSchema.of("record", value)
        except BadConfiguration as error:
            raise ValueError(str(error)) from error
        return require_storable(value)  # its depth and size are bounded by now

    @field_validator("version", mode="before")
    @classmethod
    def _version_is_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int | float) else value

    def applies_to(self, detection: Detection) -> bool:
        """Whether this configuration is meant for the document."""
        wanted = (self.message, self.version, self.sender)
        found = (detection.message_root, detection.spec_version, detection.sender)
        return all(want is None or want == have for want, have in zip(wanted, found, strict=True))

    @property
    def key(self) -> tuple[str | None, str | None, str | None, str]:
        """What must be unique."""
        return (self.message, self.version, self.sender, self.path)


class ConfigurationFile(BaseModel):
    """The whole file: ``nodes``, a list of node configurations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: tuple[NodeConfiguration, ...]

    @field_validator("nodes")
    @classmethod
    def _nodes_are_unique(cls, value: tuple[NodeConfiguration, ...]) -> tuple[NodeConfiguration, ...]:
        if not value:
            raise ValueError("at least one node is needed, such as - path: DataLists/PaxList/Pax")
        seen = set()
        for number, node in enumerate(value):
            if node.key in seen:
                raise ValueError(
                    f"nodes[{number}] has the path {node.path!r} a second time for the same message, version and sender"
                )
            seen.add(node.key)
        return value


def load_configurations(path: Path) -> tuple[NodeConfiguration, ...]:
    """Reads a configuration file.

    Raises:
        BadConfiguration: the file is missing, no YAML, or says something unusable; the message tells file, line
            or key, and what is expected.
    """
    from thresher.workflows.discovery import configuration_files  # noqa: PLC0415 # few have one, and YAML takes 2 MB

    return configuration_files.load(path)


def applicable(nodes: Iterable[NodeConfiguration], detection: Detection) -> tuple[NodeConfiguration, ...]:
    """The configurations meant for a document; for the same path the most specific one wins, then the first."""
    best: dict[str, NodeConfiguration] = {}
    for node in nodes:
        if node.applies_to(detection) and _specificity(node) > _specificity(best.get(node.path)):
            best[node.path] = node
    return tuple(node for node in nodes if best.get(node.path) is node)


def _specificity(node: NodeConfiguration | None) -> int:
    return -1 if node is None else sum(part is not None for part in (node.message, node.version, node.sender))
