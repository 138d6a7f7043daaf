"""Parts of a JSON Schema as they are meant: references followed, combinations laid together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from thresher.llm.structural.scalars import types

Schema = Mapping[str, Any]

_MOST_REFERENCES = 32  # in a chain; longer ones lead in a circle


def resolved(schema: object, root: Schema) -> Schema:
    """A schema without ``$ref`` and ``allOf`` at its top; what stands beside them wins. Anything goes: ``{}``."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, (dict, Mapping)):  # the first is told at once, and is what all but a few are
            return {}
        if "$ref" in schema:
            target = _pointed_at(root, schema["$ref"])
            beside = {key: value for key, value in schema.items() if key != "$ref"} if len(schema) > 1 else None
            schema = {**target, **beside} if beside and isinstance(target, Mapping) else target
        elif "allOf" in schema:
            schema = _merged([resolved(part, root) for part in schema["allOf"]], schema)
        else:
            return schema
    return {}


def branches(schema: Schema, root: Schema) -> Sequence[Schema]:
    """The alternatives of a resolved schema, without null; none where it has no ``anyOf`` or ``oneOf``."""
    beside = {key: value for key, value in schema.items() if key not in {"anyOf", "oneOf"}}
    alternatives = [resolved(part, root) for part in schema.get("anyOf", schema.get("oneOf", ()))]
    return [_merged([beside], part) if beside else part for part in alternatives if part.get("type") != "null"]


def nullable(schema: Schema, root: Schema) -> bool:
    """Whether null fits a resolved schema."""
    if "const" in schema:
        return schema["const"] is None
    if "enum" in schema:
        return None in schema["enum"]
    if "anyOf" in schema or "oneOf" in schema:
        parts = schema.get("anyOf", schema.get("oneOf", ()))
        return any(nullable(resolved(part, root), root) for part in parts)
    kinds = types(schema)
    return not kinds or "null" in kinds


def _merged(parts: Sequence[Schema], last: Schema) -> Schema:
    merged: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in [*parts, {key: value for key, value in last.items() if key != "allOf"}]:
        merged.update(part)
        properties.update(part.get("properties", {}))
        required.extend(part.get("required", ()))
    if properties:
        merged["properties"] = properties
    if required:
        merged["required"] = list(dict.fromkeys(required))
    return merged


def _pointed_at(root: Schema, reference: str) -> object:
    part: Any = root
    try:
        for name in _steps(reference):
            part = part[int(name)] if isinstance(part, list) else part[name]
    except (KeyError, IndexError, ValueError, TypeError):
        return {}
    return part


@lru_cache(maxsize=1024)
def _steps(reference: str) -> tuple[str, ...]:
    steps = reference.removeprefix("#").split("/")[1:]
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)
