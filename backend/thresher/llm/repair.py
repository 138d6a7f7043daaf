"""Mends an answer that is almost the JSON that was asked for; never makes one out of prose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from thresher.llm.schema import Schema

Json = Any  # what json.loads returns: any JSON value

MAX_MENDED_CHARACTERS = 262_144  # json_repair takes long for more
_MAX_STARTS = 64  # places in prose where JSON may begin

_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # not the text backslash, u0000
_FENCED = re.compile(r"```[A-Za-z0-9_-]*+[ \t]*+\r?\n?(.*?)```", re.DOTALL)
_STRING = r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)'  # possessive: an unclosed string runs to the end, once
_STRING_OR_TRAILING_COMMA = re.compile(_STRING + r"|,(?=\s*+[}\]])", re.DOTALL)
_STRING_OR_BRACKET = re.compile(_STRING + r"|[{}\[\]]", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_LOOKS_LIKE_JSON = re.compile(r"\{\s*+[\"'}]|\[\s*+[\"'{\[]")
_KEY = re.compile(r"""["'][^"'\n]{1,200}["']\s*:""")
_WORDS_OF_CONFIDENCE = {"very high": 0.95, "high": 0.9, "medium": 0.5, "moderate": 0.5, "low": 0.2, "very low": 0.05}


class _Written(str):
    """A JSON number as the model wrote it, so that 10.50 stays 10.50 where text was asked for."""

    __slots__ = ()


def repairs(text: str, schema: Schema) -> Iterator[str]:
    """Streams what an answer may have meant, as JSON text, the safest reading first; nothing where it holds no JSON.

    Each is read from the text and brought into the schema's shape where that takes no guess; none is validated.
    """
    seen = set()
    for value in _readings(text):
        try:
            repaired = _as_written(Shape(schema).fitted(value))
        except RecursionError:
            continue
        if repaired not in seen:
            seen.add(repaired)
            yield repaired


def _readings(text: str) -> Iterator[Json]:
    """The JSON in a text: all of it, what stands in code fences, what stands in prose, and mended JSON."""
    text = _ESCAPED_NUL.sub(r"\1", text.strip().removeprefix("\ufeff"))
    tidy = _without_trailing_commas(text)
    yield from _parsed(text)
    yield from _parsed(tidy)
    fenced = [part.strip() for part in _FENCED.findall(text)]
    yield from _united([value for part in fenced for value in _parsed(_without_trailing_commas(part))])
    yield from _united(list(_embedded(tidy)))
    yield from _mended(fenced[0] if len(fenced) == 1 else text)


def _united(values: list[Json]) -> Iterator[Json]:
    """What several values in one text mean: all of them, in one list, so that none is dropped."""
    telling = [value for value in values if isinstance(value, dict) or any(isinstance(part, dict) for part in value)]
    values = telling or values
    if len(values) == 1:
        yield values[0]
    elif values:
        yield [entry for value in values for entry in (value if isinstance(value, list) else [value])]


def _without_trailing_commas(text: str) -> str:
    return _STRING_OR_TRAILING_COMMA.sub(lambda match: "" if match[0] == "," else match[0], text)


def _parsed(text: str) -> Iterator[Json]:
    try:
        value = json.loads(text, parse_float=_Written, parse_int=_Written, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict | list):
        yield value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _embedded(text: str) -> Iterator[Json]:
    """The outermost values in prose. Broken JSON ends the search: its inner parts are not the whole answer."""
    decoder = json.JSONDecoder(parse_float=_Written, parse_int=_Written, parse_constant=_refuse)
    position = 0
    for _ in range(_MAX_STARTS):
        start = _OPENING.search(text, position)
        if start is None:
            return
        try:
            value, position = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            if _LOOKS_LIKE_JSON.match(text, start.start()):
                return
            position = start.end()
        else:
            yield value


def _mended(text: str) -> Iterator[Json]:
    """The last step: single quotes, missing quotes and commas. Only for text that is JSON in its structure.

    A text whose brackets do not close was cut; closing them would hide that something is missing.
    """
    start, end = _OPENING.search(text), max(text.rfind("}"), text.rfind("]"))
    if start is None or end < start.start() or len(text) > MAX_MENDED_CHARACTERS:
        return
    body = text[start.start() : end + 1]
    if not _KEY.search(body) or not _is_closed(body):
        return
    import json_repair  # noqa: PLC0415  # few answers need it

    try:
        value = json_repair.loads(body)
    except (ValueError, RecursionError):
        return
    if value and isinstance(value, dict | list) and _says_the_same(value, body):
        yield value


def _says_the_same(value: Json, text: str) -> bool:
    """Whether mending dropped no property and made up no scalar."""
    keys, scalars = _parts(value)
    return len(keys) >= len(_KEY.findall(text)) and all(_stands_in(scalar, text) for scalar in (*keys, *scalars))


def _is_closed(text: str) -> bool:
    """Whether every bracket outside strings is closed, in whatever order the model closed them."""
    depth = {"{": 0, "[": 0}
    for match in _STRING_OR_BRACKET.finditer(text):
        bracket = match[0]
        if bracket in depth:
            depth[bracket] += 1
        elif bracket in "}]":
            depth["{" if bracket == "}" else "["] -= 1
    return all(count <= 0 for count in depth.values())


def _parts(value: Json) -> tuple[list[str], list[Json]]:
    """All keys and all scalars of a JSON value."""
    keys: list[str] = []
    scalars: list[Json] = []
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            keys.extend(part)
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
        else:
            scalars.append(part)
    return keys, scalars


def _stands_in(scalar: Json, text: str) -> bool:
    """Whether a mended scalar was written by the model, not by the mending."""
    if scalar == "":
        return '""' in text or "''" in text
    if isinstance(scalar, str):
        return scalar in text or json.dumps(scalar, ensure_ascii=False)[1:-1] in text
    if isinstance(scalar, bool) or scalar is None:
        return str(scalar).lower() in text.lower() or "null" in text
    return str(scalar) in text


def _as_written(value: Json) -> str:
    """JSON text in which every number stands as the model wrote it, so that grounding can compare it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_as_written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_written, value)) + "]"
    return str(value) if isinstance(value, _Written) else json.dumps(value)


class Shape:
    """Brings a JSON value into the shape of a schema where only its form is wrong, never its content."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema

    def fitted(self, value: Json) -> Json:
        """The value in the schema's shape, as far as that takes no guess."""
        return self._fitted(value, self._root, name="")

    def _fitted(self, value: Json, schema: Schema, name: str) -> Json:
        schema = self._chosen(schema, value)
        types = _types(schema)
        if "object" in types:
            return self._as_object(value, schema, types)
        if "array" in types:
            return self._as_array(value, schema, types)
        return _as_scalar(value, types, name)

    def _chosen(self, schema: Schema, value: Json) -> Schema:
        """The part of a schema that a value is to fit: references followed, nulls of unions aside."""
        for _ in range(64):
            if "$ref" in schema:
                schema = self._target(schema["$ref"])
            elif "anyOf" in schema:
                schema = _branch(schema["anyOf"], value)
            else:
                break
        return schema

    def _target(self, reference: str) -> Schema:
        part: Json = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            part = part.get(step.replace("~1", "/").replace("~0", "~"), {})
        return part if isinstance(part, dict) else {}

    def _as_object(self, value: Json, schema: Schema, types: tuple[str, ...]) -> Json:
        properties: dict[str, Schema] = schema.get("properties", {})
        if isinstance(value, list) and "array" not in types:
            value = self._from_list(value, properties)
        if not isinstance(value, dict):
            return value
        value = _with_known_names(value, properties)
        if properties and not value.keys() & properties.keys():
            value = self._around(value, properties)
        closed = schema.get("additionalProperties") is False
        return {
            key: self._fitted(entry, properties[key], key) if key in properties else entry
            for key, entry in value.items()
            if key in properties or not closed
        }

    def _from_list(self, value: list[Json], properties: dict[str, Schema]) -> Json:
        """A list where an object was asked: its only entry, or what belongs into the object's only list."""
        lists = [name for name, entry in properties.items() if "array" in _types(self._chosen(entry, []))]
        if len(value) == 1 and isinstance(value[0], dict) and value[0].keys() & properties.keys():
            return value[0]
        return {lists[0]: value} if len(lists) == len(properties) == 1 else value

    def _around(self, value: dict[str, Json], properties: dict[str, Schema]) -> dict[str, Json]:
        """One bare entry where an object holding a list of such entries was asked."""
        if len(properties) != 1:
            return value
        ((name, entry),) = properties.items()
        items = self._chosen(self._chosen(entry, []).get("items", {}), value)
        return {name: [value]} if value.keys() & items.get("properties", {}).keys() else value

    def _as_array(self, value: Json, schema: Schema, types: tuple[str, ...]) -> Json:
        if isinstance(value, dict) and "object" not in types:
            value = [value]
        if not isinstance(value, list):
            return value
        items = schema.get("items", {})
        return [self._fitted(entry, items, "") for entry in value]


def _types(schema: Schema) -> tuple[str, ...]:
    declared = schema.get("type", ())
    return (declared,) if isinstance(declared, str) else tuple(declared)


def _branch(branches: list[Schema], value: Json) -> Schema:
    if value is None:
        return {}
    wanted = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
    others = [branch for branch in branches if branch.get("type") != "null"]
    fitting = [branch for branch in others if wanted in _types(branch)]
    return (fitting or others or [{}])[0]


def _with_known_names(value: dict[str, Json], properties: dict[str, Schema]) -> dict[str, Json]:
    """Names that differ from the schema's in case, blanks or dashes only."""
    known = {_folded(name): name for name in properties}
    return {
        name if name in properties or known.get(_folded(name), name) in value else known.get(_folded(name), name): entry
        for name, entry in value.items()
    }


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _as_scalar(value: Json, types: tuple[str, ...], name: str) -> Json:
    if isinstance(value, _Written):
        return str(value) if "string" in types and not {"number", "integer"} & set(types) else value
    if isinstance(value, str) and "string" not in types:
        return _from_text(value, types, name)
    if isinstance(value, bool | int | float) and types == ("string",):
        return json.dumps(value)
    return value


def _from_text(text: str, types: tuple[str, ...], name: str) -> Json:
    """A number, a truth or a confidence that was written as text; the text itself where it is none."""
    word = text.strip().casefold()
    if "boolean" in types and word in ("true", "false"):
        return word == "true"
    if "null" in types and word in ("null", "none", ""):
        return None
    number = _number_in(word, types)
    if number is None and "number" in types and _folded(name) == "confidence":
        number = _confidence_in(word)
    return text if number is None else number


def _number_in(word: str, types: tuple[str, ...]) -> int | float | None:
    if re.fullmatch(r"-?\d{1,15}", word) and {"integer", "number"} & set(types):
        return int(word)
    return float(word) if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", word) and "number" in types else None


def _confidence_in(word: str) -> float | None:
    if re.fullmatch(r"\d{1,3}(?:\.\d{1,9})? ?%", word):
        return float(word.rstrip("% ")) / 100
    return _WORDS_OF_CONFIDENCE.get(word)
