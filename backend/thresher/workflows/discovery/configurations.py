"""Which paths are read, and how: node configurations from a YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from thresher.core.errors import BadConfiguration
from thresher.llm.schema import RecordSchema
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

    @field_validator("record_schema")
    @classmethod
    def _schema_is_usable(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            if value is not None:
                RecordSchema.of("record", value)
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
    try:
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        content = _content(tree)
    except OSError as error:
        raise BadConfiguration(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"The configuration {path} is not UTF-8 text (byte {error.start}).") from error
    except yaml.YAMLError as error:
        raise BadConfiguration(f"The configuration {path} is not valid YAML: {_place(error)}.") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        raise BadConfiguration(f"The configuration {path} cannot be used: {reason}.") from error
    try:
        return ConfigurationFile.model_validate(content).nodes
    except ValidationError as error:
        raise BadConfiguration(f"The configuration {path} cannot be used: {_sentences(error, tree)}.") from error


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


def _content(tree: yaml.Node | None) -> Any:  # noqa: ANN401 # whatever the file holds
    """The values of a YAML tree.

    Raises:
        ValueError: a mapping has a key twice (YAML itself would keep the last in silence), or a date is none.
    """
    if tree is None:
        return None
    _refuse_double_keys(tree, set())
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(tree)
    except ValueError as error:
        raise ValueError(f"a date or number in it is none ({error})") from error
    finally:
        loader.dispose()


def _refuse_double_keys(node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    keys = set()
    for child in node.value:
        if isinstance(node, yaml.MappingNode):
            key, value = child
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise ValueError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands there twice")
            keys.add(str(key.value))
            _refuse_double_keys(value, seen)
        else:
            _refuse_double_keys(child, seen)


_WORDS = {  # pydantic's types of errors, in words for people
    "missing": "is missing",
    "string_type": "must be text (in quotes where it looks like a number or a date)",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
}
_SHOWN_PROBLEMS = 3


def _sentences(error: ValidationError, tree: yaml.Node | None) -> str:
    """One part per problem: line, key and what is wrong there."""
    problems = error.errors(include_url=False, include_input=False)
    parts = [f"{_where(problem['loc'], tree)} {_what(problem)}" for problem in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        parts.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return "; ".join(parts)


def _what(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return "is an unknown key (known: " + ", ".join(_known_keys(problem["loc"])) + ")"
    if problem["type"] == "model_type" and not problem["loc"]:
        return "must begin with nodes: and list them below"
    said = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    return _WORDS.get(problem["type"], f"- {said}")


def _where(location: tuple[int | str, ...], tree: yaml.Node | None) -> str:
    """The line and the key as people write it: ``line 3, nodes[0].enabled``."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")
    line = _line(location, tree)
    return ", ".join(part for part in (f"line {line}" if line else "", path) if part) or "the file"


def _line(location: tuple[int | str, ...], node: yaml.Node | None) -> int:
    """Where the last step of a place stands, or the nearest around it; 0 where there is nothing."""
    line = 0
    for step in location:
        if isinstance(node, yaml.MappingNode):
            key, node = next(((key, value) for key, value in node.value if key.value == step), (None, None))
            line = key.start_mark.line + 1 if key is not None else line
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = ConfigurationFile if len(location) == 1 else NodeConfiguration
    return [field.alias or name for name, field in model.model_fields.items()]
