"""The shape an answer must have: a strict JSON Schema, made once per run.

Strict modes of servers take a part of JSON Schema only. What is sent is a copy that keeps to this part; the
schema as its author wrote it is enforced when the answer is validated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from thresher.core.errors import BadConfiguration

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from pydantic import BaseModel

Schema = dict[str, Any]

MAX_SCHEMA_CHARACTERS = 120_000
MAX_SCHEMA_DEPTH = 64
MAX_PROPERTIES = 5_000  # OpenAI's strict mode takes no more

_COPIED_KEYWORDS = (
    "title",
    "description",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
)
_LENGTH_KEYWORDS = ("minLength", "maxLength")  # OpenAI refuses them, local servers loop without them


@dataclass(frozen=True, slots=True, eq=False)
class ResponseSchema:
    """What a run's answers look like, ready to be sent. Compared by identity: there is one per run.

    ``schema`` is the strict copy: every object closed, every property required, optional ones nullable.
    ``response_format`` carries it as OpenAI takes it; ``bounded_format`` adds lengths of strings for servers
    that take them. ``strict`` is False where the schema holds what no strict mode can say (open maps, values
    of any type): then servers follow it as well as they can, and validation decides.
    """

    name: str
    schema: Schema
    strict: bool
    response_format: Schema
    bounded_format: Schema

    @classmethod
    def of_model(cls, model: type[BaseModel]) -> Self:
        """The schema of a pydantic model: a property with a default is asked for like any other."""
        return cls._of(model.__name__, model.model_json_schema(), nullable_optionals=False)

    def of_several(self) -> ResponseSchema:
        """Of several such answers in one, each with the ``id`` of what it is about: ``{"answers": [{"id", ...}]}``."""
        name = f"{self.name[:56]}_several"
        schema, bounded = (
            _several(one["json_schema"]["schema"]) for one in (self.response_format, self.bounded_format)
        )
        return ResponseSchema(
            name=name,
            schema=schema,
            strict=self.strict,
            response_format=_response_format(name, schema, strict=self.strict),
            bounded_format=_response_format(name, bounded, strict=self.strict),
        )

    @classmethod
    def of_json_schema(cls, name: str, schema: Mapping[str, Any]) -> Self:
        """The schema of a user, checked.

        Raises:
            BadConfiguration: it is no JSON Schema, over a bound, or its root is no object.
        """
        return cls._of(name, _checked(name, schema), nullable_optionals=True)

    @classmethod
    def _of(cls, name: str, source: Schema, *, nullable_optionals: bool) -> Self:
        if "object" not in _types(_dereferenced(source, source)):
            raise BadConfiguration(f'The schema "{name}" must describe an object ("type": "object") at its root.')
        keywords = (_COPIED_KEYWORDS, _COPIED_KEYWORDS + _LENGTH_KEYWORDS)
        strict, bounded = (
            _StrictCopy(source, nullable_optionals=nullable_optionals, keywords=some) for some in keywords
        )
        try:
            schema, bounded_schema = strict.root(), bounded.root()
        except RecursionError as error:
            raise BadConfiguration(f'The schema "{name}" consists of itself ("allOf" in a circle).') from error
        label = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "answer"
        return cls(
            name=label,
            schema=schema,
            strict=strict.expressible,
            response_format=_response_format(label, schema, strict=strict.expressible),
            bounded_format=_response_format(label, bounded_schema, strict=strict.expressible),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RecordSchema:
    """A user's schema of a record, and the answer that carries one: ``{"record", "proofs", "confidence"}``.

    ``proofs`` holds, for each value of the record, its JSON pointer and the path in the subtree that proves it.
    """

    source: Schema
    response: ResponseSchema
    _validator: Validator

    @classmethod
    def of(cls, name: str, schema: Mapping[str, Any]) -> Self:
        """Checks a user's schema and wraps it.

        Raises:
            BadConfiguration: it is no JSON Schema, refers outside itself, is over a bound or no object.
        """
        from jsonschema.validators import validator_for  # noqa: PLC0415  # costs 0.1 s, few runs need it

        source = _checked(name, schema)
        if "object" not in _types(_dereferenced(source, source)):
            raise BadConfiguration(f'The schema "{name}" must describe an object ("type": "object") at its root.')
        wrapped = ResponseSchema._of(name, _around_record(source), nullable_optionals=True)  # noqa: SLF001  # same module
        validator_class = validator_for(source, default=_default_validator())
        return cls(source=source, response=wrapped, _validator=validator_class(source))

    def validate(self, record: Any) -> Any:  # noqa: ANN401  # a JSON value of the user's own shape
        """Returns the record as the user's schema wants it: without the nulls that stand for absent properties.

        Raises:
            ValueError: the record does not fit; the message names up to five places and what is wrong there.
        """
        pruned = self._without_absent(record, self.source)
        problems = [
            f"{'/'.join(('record', *map(str, error.absolute_path)))}: {error.message[:200]}"
            for error, _ in zip(self._validator.iter_errors(pruned), range(5), strict=False)
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return pruned

    def _without_absent(self, value: Any, schema: Any) -> Any:  # noqa: ANN401  # JSON values
        schema = _dereferenced(schema, self.source)
        for branch in _branches(schema):
            value = self._without_absent(value, branch)
        if isinstance(value, dict):
            return self._object_without_absent(value, schema)
        if isinstance(value, list) and "items" in schema:
            return [self._without_absent(entry, schema["items"]) for entry in value]
        return value

    def _object_without_absent(self, value: dict[str, Any], schema: Schema) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        return {
            key: self._without_absent(entry, properties.get(key, {}))
            for key, entry in value.items()
            if entry is not None or key in required or key not in properties or self._takes_null(properties[key])
        }

    def _takes_null(self, schema: Any) -> bool:  # noqa: ANN401  # a JSON Schema may be a boolean
        return bool(self._validator.evolve(schema=schema).is_valid(None))


class _StrictCopy:
    """Copies a schema into the part of JSON Schema that strict modes take.

    ``expressible`` turns False where the copy cannot say what the source says.
    """

    def __init__(self, source: Schema, *, nullable_optionals: bool, keywords: tuple[str, ...]) -> None:
        self.expressible = True
        self._source = source
        self._nullable_optionals = nullable_optionals
        self._keywords = keywords
        self._inlining: list[str] = []

    def root(self) -> Schema:
        """The copy of the whole schema, with the definitions that it refers to."""
        source = _dereferenced(self._source, self._source)
        copy = self._of({key: value for key, value in source.items() if key not in ("$defs", "definitions")})
        for group in ("$defs", "definitions"):
            if definitions := self._source.get(group):
                copy[group] = {name: self._of(definition) for name, definition in definitions.items()}
        return copy

    def _of(self, schema: Any) -> Schema:  # noqa: ANN401  # a JSON Schema may be a boolean
        if not isinstance(schema, dict):
            self.expressible = False
            return {}
        if "$ref" in schema:
            return self._reference(schema)
        schema = _merged_all_of(schema, self._source)
        copy = {key: schema[key] for key in self._keywords if key in schema}
        self._copy_type(schema, copy)
        if branches := schema.get("anyOf", schema.get("oneOf")):
            copy["anyOf"] = [self._of(branch) for branch in branches]
        if not copy.keys() & {"type", "enum", "const", "anyOf"}:
            self.expressible = False
        return copy

    def _reference(self, schema: Schema) -> Schema:
        """A reference stands alone in strict modes: what stands beside it is joined with a copy of its target."""
        reference = schema["$ref"]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        if not beside or reference in self._inlining:
            return {"$ref": reference}
        self._inlining.append(reference)
        try:
            return self._of({**_dereferenced(schema, self._source), **beside})
        finally:
            self._inlining.pop()

    def _copy_type(self, schema: Schema, copy: Schema) -> None:
        types = _types(schema)
        if types:
            copy["type"] = types[0] if len(types) == 1 else list(types)
        if "object" in types:
            self._copy_properties(schema, copy)
        if "array" in types:
            self.expressible &= "items" in schema and "prefixItems" not in schema
            copy["items"] = self._of(schema.get("items", {}))

    def _copy_properties(self, schema: Schema, copy: Schema) -> None:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        if isinstance(others, dict) or (not properties and others is not False):
            self.expressible = False
            copy["additionalProperties"] = others if others is not None else True
        else:
            copy["additionalProperties"] = False
        optional = set(properties) - set(schema.get("required", ())) if self._nullable_optionals else set()
        copy["properties"] = {
            name: _nullable(self._of(entry)) if name in optional else self._of(entry)
            for name, entry in properties.items()
        }
        copy["required"] = list(properties)


def _response_format(name: str, schema: Schema, *, strict: bool) -> Schema:
    return {"type": "json_schema", "json_schema": {"name": name, "strict": strict, "schema": schema}}


def _types(schema: Schema) -> tuple[str, ...]:
    declared = schema.get("type")
    if isinstance(declared, str):
        return (declared,)
    if declared:
        return tuple(declared)
    return ("object",) if "properties" in schema else ("array",) if "items" in schema else ()


def _nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if "enum" in schema and None not in schema["enum"]:
        schema = {**schema, "enum": [*schema["enum"], None]}
    types = _types(schema)
    if "anyOf" in schema:
        known = {"type": "null"} in schema["anyOf"]
        return schema if known else {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "const" in schema or "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema if not types or "null" in types else {**schema, "type": [*types, "null"]}


def _branches(schema: Schema) -> list[Any]:
    return [*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _merged_all_of(schema: Schema, root: Schema) -> Schema:
    """``allOf`` laid together: strict modes do not know it."""
    if "allOf" not in schema:
        return schema
    parts = [_merged_all_of(_dereferenced(part, root), root) for part in schema["allOf"] if isinstance(part, dict)]
    parts.append({key: value for key, value in schema.items() if key != "allOf"})
    merged: Schema = {}
    for part in parts:
        merged.update(part)
    merged["properties"] = {name: entry for part in parts for name, entry in part.get("properties", {}).items()}
    merged["required"] = list(dict.fromkeys(name for part in parts for name in part.get("required", ())))
    return merged if merged["properties"] else {key: merged[key] for key in merged if key not in _OBJECT_KEYWORDS}


_OBJECT_KEYWORDS = frozenset({"properties", "required"})


def _dereferenced(schema: Any, root: Schema) -> Schema:  # noqa: ANN401  # a JSON Schema may be a boolean
    """What a schema's chain of references leads to; the schema itself where there is none."""
    for _ in range(MAX_SCHEMA_DEPTH):
        if not isinstance(schema, dict):
            return {}
        if "$ref" not in schema:
            return dict(schema)
        schema = _pointed_at(root, schema["$ref"])
    return {}


def _pointed_at(root: Schema, reference: str) -> Any:  # noqa: ANN401  # any part of a schema
    part: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        part = part[int(name)] if isinstance(part, list) else part[name]
    return part


def _around_record(source: Schema) -> Schema:
    """The answer that carries a record; the record's references are led to where its parts now stand."""
    record = {key: value for key, value in source.items() if key not in ("$defs", "definitions", "$schema", "$id")}
    proof = {
        "type": "object",
        "properties": {
            "pointer": {"type": "string", "description": "JSON pointer of a value in the record, such as /name"},
            "path": {"type": "string", "description": "path of the element or @attribute that holds this value"},
        },
        "required": ["pointer", "path"],
    }
    around: Schema = {
        "type": "object",
        "properties": {
            "record": record,
            "proofs": {"type": "array", "items": proof},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["record", "proofs", "confidence"],
    }
    for group in ("$defs", "definitions"):
        if group in source:
            around[group] = source[group]
    moved: Schema = _led_to(around, "#/properties/record")
    return moved


def _several(schema: Schema) -> Schema:
    """A list of what a schema describes; its references are led to where its parts now stand."""
    groups: Schema = {group: schema[group] for group in ("$defs", "definitions") if group in schema}
    identity = {"type": "string", "description": "the id of the subtree that this entry is about"}
    entry = {key: value for key, value in schema.items() if key not in groups}
    entry["properties"] = {"id": identity, **entry["properties"]}
    entry["required"] = ["id", *entry["required"]]
    around: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"answers": {"type": "array", "items": entry}},
        "required": ["answers"],
        **groups,
    }
    moved: Schema = _led_to(around, "#/properties/answers/items")
    return moved


def _led_to(value: Any, place: str) -> Any:  # noqa: ANN401  # any part of a schema
    """The same with references led to ``place``, where what they point into now stands; definitions stay."""
    if isinstance(value, list):
        return [_led_to(entry, place) for entry in value]
    if not isinstance(value, dict):
        return value
    moved = {key: _led_to(entry, place) for key, entry in value.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and not reference.startswith(("#/$defs/", "#/definitions/")):
        moved["$ref"] = place + reference.removeprefix("#")
    return moved


def _checked(name: str, schema: object) -> Schema:
    """A user's schema, as plain JSON, within the bounds.

    Raises:
        BadConfiguration: the message names the schema, the place and what is wrong there.
    """
    plain = _as_json(name, schema)
    parts = list(_parts(name, plain))
    if sum(len(part["properties"]) for _, part in parts if isinstance(part.get("properties"), dict)) > MAX_PROPERTIES:
        raise BadConfiguration(f'The schema "{name}" has more than {MAX_PROPERTIES} properties: ask for less.')
    _check_references(name, plain, parts)
    _check_against_its_standard(name, plain)
    return plain


def _as_json(name: str, schema: object) -> Schema:
    """The schema as plain JSON. Its text is bounded while it is written: aliases of YAML multiply without end."""
    if not isinstance(schema, Mapping):
        raise BadConfiguration(f'The schema "{name}" must be a mapping, not {type(schema).__name__}.')
    try:
        plain: Schema = json.loads("".join(_written(name, schema)))
    except RecursionError as error:
        raise BadConfiguration(f'The schema "{name}" is nested deeper than {MAX_SCHEMA_DEPTH} levels.') from error
    except (TypeError, ValueError) as error:
        raise BadConfiguration(f'The schema "{name}" holds a value that JSON cannot: {error}.') from error
    return plain


def _written(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    characters = 0
    for part in json.JSONEncoder(allow_nan=False).iterencode(schema):
        characters += len(part)
        if characters > MAX_SCHEMA_CHARACTERS:
            raise BadConfiguration(
                f'The schema "{name}" has more than {MAX_SCHEMA_CHARACTERS:,} characters: ask for less at a time.'
            )
        yield part


def _parts(name: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every mapping inside a schema with its JSON pointer, without recursion."""
    waiting: list[tuple[str, Any, int]] = [("", schema, 1)]
    while waiting:
        pointer, part, depth = waiting.pop()
        if depth > MAX_SCHEMA_DEPTH:
            raise BadConfiguration(f'The schema "{name}" is nested deeper than {MAX_SCHEMA_DEPTH} levels.')
        if isinstance(part, dict):
            yield pointer or "/", part
        entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        waiting.extend((f"{pointer}/{key}", entry, depth + 1) for key, entry in entries)


def _check_references(name: str, schema: Schema, parts: list[tuple[str, Schema]]) -> None:
    for pointer, part in parts:
        reference = part.get("$ref")
        if not isinstance(reference, str):
            continue
        if not reference.startswith("#"):
            raise BadConfiguration(
                f'The schema "{name}" refers outside itself at {pointer}: {reference!r}. Copy the part into "$defs".'
            )
        try:
            _pointed_at(schema, reference)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise BadConfiguration(f'The schema "{name}" refers to nothing at {pointer}: {reference!r}.') from error


def _check_against_its_standard(name: str, schema: Schema) -> None:
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415  # costs 0.1 s, few runs need it
    from jsonschema.validators import validator_for  # noqa: PLC0415  # same

    try:
        validator_for(schema, default=_default_validator()).check_schema(schema)
    except SchemaError as error:
        place = "/" + "/".join(map(str, error.absolute_path))
        raise BadConfiguration(f'The schema "{name}" is no JSON Schema at {place}: {error.message[:200]}.') from error


def _default_validator() -> type[Validator]:
    from jsonschema import Draft202012Validator  # noqa: PLC0415  # costs 0.1 s, few runs need it

    return Draft202012Validator
