"""Scalars of a JSON Schema: a written value as one, and the least one that fits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from thresher.llm.grounding import WrittenFloat

Schema = Mapping[str, Any]
Json = Any
Scalar = None | bool | int | float | str

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "false": False}
_MARK = "\0"  # no XML holds it
_MARKED = re.compile(r'"\\u0000([^"]*)"')


def to_text(value: Json) -> str:
    """A JSON value as JSON, its numbers as they were written."""
    if not _holds_written_float(value):
        return to_json(value).decode()
    return _MARKED.sub(r"\1", to_json(_marked(value)).decode())


def _holds_written_float(value: Json) -> bool:
    """Most answers hold texts only, and need no copy with marks."""
    parts = [value]
    for part in parts:  # which grows meanwhile
        kind = type(part)
        if kind is dict:
            parts.extend(part.values())
        elif kind is list:
            parts.extend(part)
        elif kind is WrittenFloat:
            return True
    return False


def _marked(value: Json) -> Json:
    if isinstance(value, WrittenFloat):
        return _MARK + value.text
    if isinstance(value, dict):
        return {key: entry if type(entry) is str else _marked(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_marked(entry) for entry in value]
    return value


class NoFit(ValueError):
    """Raised when a written value is not of the type asked for, or outside its bounds."""


def types(schema: Schema) -> Sequence[str]:
    """The types that a schema names, or that its keywords imply; empty where anything goes."""
    declared = schema.get("type")
    if isinstance(declared, str):
        return (declared,)
    if declared:
        return tuple(declared)
    if "properties" in schema:
        return ("object",)
    return ("array",) if "items" in schema else ()


def coerced(written: str, schema: Schema) -> Scalar:
    """A written value as the schema wants it, without changing how it is written: 007 is no integer of JSON.

    Raises:
        NoFit: it cannot be had from what is written.
    """
    for kind in types(schema) or ("string",):
        value = _as_type(written, kind)
        if value is not None and allows(schema, value):
            return value
    for member in schema.get("enum", (schema["const"],) if "const" in schema else ()):
        if not isinstance(member, (list, dict)) and _written(member) == written and allows(schema, member):
            return _scalar(member)
    raise NoFit(written)


def allows(schema: Schema, value: Scalar) -> bool:
    """Whether a scalar of the right type is within the bounds of the schema."""
    if "const" in schema and not _same(schema["const"], value):
        return False
    if "enum" in schema and not any(_same(member, value) for member in schema["enum"]):
        return False
    if isinstance(value, str):
        return _allows_text(schema, value)
    if isinstance(value, bool) or value is None:
        return True
    return _allows_number(schema, value)


def least(schema: Schema) -> Scalar:
    """The plainest scalar that fits: null where it may be, else a constant, else an empty or small value."""
    kinds = types(schema)
    choices = [schema["const"]] if "const" in schema else list(schema.get("enum", ()))
    if choices:
        return None if None in choices else _scalar(choices[0])
    if not kinds or "null" in kinds:
        return None
    if "string" in kinds:
        return "?" * int(schema.get("minLength", 0))
    return False if "boolean" in kinds else _least_number(schema, whole="number" not in kinds)


def _scalar(value: Any) -> Scalar:  # noqa: ANN401  # a member of an enum
    return value  # type: ignore[no-any-return]  # enums of lists and objects are not asked of a leaf


def _written(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _same(one: object, other: object) -> bool:
    """Equality of JSON: true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _as_type(written: str, kind: str) -> Scalar:
    if kind == "string":
        return written
    if kind == "integer" and _INTEGER.fullmatch(written):
        return int(written)
    if kind == "number" and _NUMBER.fullmatch(written):
        number = int(written) if _INTEGER.fullmatch(written) else WrittenFloat(written)
        return number if math.isfinite(number) else None
    return _BOOLEANS.get(written) if kind == "boolean" else None


def _allows_text(schema: Schema, value: str) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
        return False
    pattern = schema.get("pattern")
    return pattern is None or _matches(pattern, value)


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # the pattern is of another dialect: validation decides
        return True


def _allows_number(schema: Schema, value: float) -> bool:
    if not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
        return False
    if not schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf):
        return False
    step = schema.get("multipleOf")
    return step is None or _is_multiple(value, step)


def _is_multiple(value: float, step: float) -> bool:
    quotient = value / step
    return quotient == int(quotient)


def _least_number(schema: Schema, *, whole: bool) -> float:
    """The allowed number next to zero, as far as bounds and step tell."""
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    nearest = min(max(0, low), high)
    step = schema.get("multipleOf", 1)
    on_grid = [math.floor(nearest / step) * step, math.ceil(nearest / step) * step]
    grid = [*on_grid, on_grid[0] - step, on_grid[1] + step]
    between = [nearest] if low == -math.inf or high == math.inf else [nearest, (low + high) / 2]
    candidates = grid if whole else [*between, *grid]
    fitting = [value for value in candidates if _allows_number(schema, value) and (not whole or value == int(value))]
    chosen = min(fitting, key=abs, default=nearest)
    return int(chosen) if chosen == int(chosen) else chosen
