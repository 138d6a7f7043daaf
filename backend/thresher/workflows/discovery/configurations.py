"""Which paths are read, and how: node configurations from a YAML file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from thresher.core.errors import BadConfiguration
from thresher.workflows.discovery.subtrees import Detection, parse_paths


class NodeConfiguration(BaseModel):
    """How the subtrees of one path are read.

    ``message``, ``version`` and ``sender`` limit it to documents that are detected as such; where they are
    missing it holds for all. ``record_schema`` is a JSON Schema of the record wanted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    path: str = Field(min_length=1)
    message: str | None = None
    version: str | None = None
    sender: str | None = None
    instructions: str | None = None
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

    nodes: tuple[NodeConfiguration, ...] = Field(min_length=1)

    @field_validator("nodes")
    @classmethod
    def _nodes_are_unique(cls, value: tuple[NodeConfiguration, ...]) -> tuple[NodeConfiguration, ...]:
        seen = set()
        for node in value:
            if node.key in seen:
                raise ValueError(f"the path {node.path!r} is configured twice for the same message, version and sender")
            seen.add(node.key)
        return value


def load_configurations(path: Path) -> tuple[NodeConfiguration, ...]:
    """Reads a configuration file.

    Raises:
        BadConfiguration: the file is missing, no YAML, or says something unusable; the message tells file, line
            or key, and what is expected.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfiguration(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"The configuration {path} is not UTF-8 text (byte {error.start}).") from error
    except yaml.YAMLError as error:
        raise BadConfiguration(f"The configuration {path} is not valid YAML: {_place(error)}.") from error
    try:
        return ConfigurationFile.model_validate(content).nodes
    except ValidationError as error:
        raise BadConfiguration(f"The configuration {path} cannot be used: {_sentences(error)}.") from error


def applicable(nodes: Iterable[NodeConfiguration], detection: Detection) -> tuple[NodeConfiguration, ...]:
    """The configurations meant for a document; for the same path the most specific one wins, then the first."""
    best: dict[str, NodeConfiguration] = {}
    for node in nodes:
        if node.applies_to(detection) and _specificity(node) > _specificity(best.get(node.path)):
            best[node.path] = node
    return tuple(node for node in nodes if best.get(node.path) is node)


def _specificity(node: NodeConfiguration | None) -> int:
    return -1 if node is None else sum(part is not None for part in (node.message, node.version, node.sender))


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "unreadable"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark is not None else str(problem)


def _sentences(error: ValidationError) -> str:
    """One part per problem: where it is and what is wrong, in words for people."""
    parts = []
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in problem["loc"]) or "the file"
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = "unknown key (known: " + ", ".join(_known_keys(problem["loc"])) + ")"
        parts.append(f"{where}: {what}")
    return "; ".join(parts)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = ConfigurationFile if len(location) == 1 else NodeConfiguration
    return [field.alias or name for name, field in model.model_fields.items()]
