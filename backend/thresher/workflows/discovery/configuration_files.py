"""Node configurations from a YAML file, with the line of whatever is wrong in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from thresher.core.errors import BadConfiguration
from thresher.workflows.discovery.configurations import ConfigurationFile, NodeConfiguration


def load(path: Path) -> tuple[NodeConfiguration, ...]:
    """Reads a configuration file.

    Raises:
        BadConfiguration: the file is missing, no YAML, or says something unusable; the message tells file, line
            or key, and what is expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadConfiguration(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"The configuration {path} is not UTF-8 text (byte {error.start}).") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> tuple[NodeConfiguration, ...]:
    """Reads the text of a configuration file that people call ``name``.

    Raises:
        BadConfiguration: it is no YAML, or says something unusable; see ``load``.
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = _content(tree)
    except yaml.YAMLError as error:
        raise BadConfiguration(f"The configuration {name} is not valid YAML: {_place(error)}.") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        raise BadConfiguration(f"The configuration {name} cannot be used: {reason}.") from error
    try:
        return ConfigurationFile.model_validate(content).nodes
    except ValidationError as error:
        raise BadConfiguration(f"The configuration {name} cannot be used: {_sentences(error, tree)}.") from error


def dump(nodes: Iterable[NodeConfiguration]) -> str:
    """The text of a configuration file that ``parse`` reads the same configurations from."""
    content = [node.model_dump(by_alias=True, exclude_defaults=True) for node in nodes]
    return yaml.safe_dump({"nodes": content}, sort_keys=False, allow_unicode=True, width=120)


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
