"""``fill``: any JSON Schema answered from the leaves of a subtree, deterministically."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from thresher.llm.evidence import Evidence, Leaf
from thresher.llm.structural import listing, names, scalars
from thresher.llm.structural.region import Region
from thresher.llm.structural.schema import branches, nullable, resolved

Schema = Mapping[str, Any]
Json = Any  # a JSON value; its shape is the schema's

MAX_DEPTH = 32
"""How deep a schema that contains itself is followed."""

MAX_OBJECTS = 20_000
"""How many objects an answer may hold: a schema that contains itself twice would have no end."""

_ABSENT = object()
_CERTAIN = 1.0


@dataclass(frozen=True, slots=True)
class Proof:
    """Where a scalar of an answer stands: its JSON pointer in the whole answer, its path in the subtree, its schema."""

    pointer: str
    path: str
    schema: Schema


def fill(schema: Schema, evidence: Evidence, *, ordinal: int = 1) -> Json:
    """Answers a JSON Schema from a subtree; the result is a JSON value.

    Three shapes are known: an answer with ``fields`` of name, value and path lists every leaf; ``{"record",
    "proofs", "confidence"}`` gets the record with a proof for each of its scalars; anything else is filled as a
    record. Properties are matched to leaves by name (see ``Region.named``), arrays of objects to repeated elements.
    What the subtree does not say is null or absent where the schema lets it, else the least value that fits, without
    a proof. ``ordinal`` is the position of the subtree among its like, which the subtree itself does not tell.
    """
    return _Reading(schema, evidence, ordinal).answer()


def fill_with_proofs(schema: Schema, evidence: Evidence, *, ordinal: int = 1) -> tuple[Json, Sequence[Proof]]:
    """``fill``, and the proof of each field or scalar; references of a listing are not among them."""
    reading = _Reading(schema, evidence, ordinal)
    answer = reading.answer()
    return answer, reading.proofs(answer)


class _Reading:
    """One schema read from one subtree."""

    def __init__(self, schema: Schema, evidence: Evidence, ordinal: int) -> None:
        self._root = schema
        self._evidence = evidence
        self._ordinal = ordinal
        self._depth = 0
        self._objects = 0
        self._proofs: list[Proof] = []
        self._properties: Schema = resolved(schema, schema).get("properties", {})

    def answer(self) -> Json:
        if self._is_proved_record:
            return self._proved_record()
        if self._is_listing:
            return self._listing()
        return self._value(self._root, self.region, "")

    def proofs(self, answer: Json) -> Sequence[Proof]:
        if self._is_proved_record or not self._is_listing:
            return self._proofs
        entry = resolved(resolved(self._properties["fields"], self._root)["items"], self._root)
        schema = resolved(entry["properties"]["value"], self._root)
        return [Proof(f"/fields/{index}/value", field["path"], schema) for index, field in enumerate(answer["fields"])]

    @property
    def _is_proved_record(self) -> bool:
        return "record" in self._properties and "proofs" in self._properties

    @property
    def _is_listing(self) -> bool:
        return "fields" in self._properties and self._lists_leaves(self._properties["fields"])

    @cached_property
    def region(self) -> Region:
        return Region.of(self._evidence)

    def _lists_leaves(self, schema: Schema) -> bool:
        schema = resolved(schema, self._root)
        return listing.is_entry(resolved(schema.get("items", {}), self._root))

    def _listing(self) -> Json:
        known: dict[str, Json] = {
            "node_type": self._evidence.root_name,
            "node_ordinal": self._ordinal,
            "confidence": _CERTAIN,
        }
        return {name: self._listed(name, part, known) for name, part in self._properties.items()}

    def _listed(self, name: str, schema: Schema, known: Mapping[str, Json]) -> Json:
        if name in known:
            return known[name]
        if not self._lists_leaves(schema):
            found = self._property(schema, self.region, name, f"/{name}")
            return self._least(schema, self.region, f"/{name}") if found is _ABSENT else found
        schema = resolved(schema, self._root)
        entries = listing.references(self._evidence) if name == "references" else listing.fields(self._evidence)
        return self._entries(entries, schema)

    def _entries(self, entries: Iterator[listing.Entry] | Sequence[listing.Entry], schema: Schema) -> Json:
        item = resolved(schema["items"], self._root)
        listed = [{"name": name, "value": value, "path": path} for name, value, path in entries]
        if not _is_plain_entry(item):
            others = item["properties"].keys() - {"name", "value", "path"}
            rest = {name: self._least(item["properties"][name], self.region, "") for name in others}
            listed = [{**entry, **rest} for entry in listed if self._fits(entry, item)]
        return listed[: schema.get("maxItems")]

    def _fits(self, entry: dict[str, Json], schema: Schema) -> bool:
        """Whether a field can be written as the schema wants it; its value is made so."""
        for name, written in entry.items():
            value = self._scalar(resolved(schema["properties"][name], self._root), written)
            if value is _ABSENT:
                return False
            entry[name] = value
        return True

    def _proved_record(self) -> Json:
        answer: dict[str, Json] = {}
        for name, schema in self._properties.items():
            if name == "record":
                answer[name] = self._value(schema, self.region, "/record")
            elif name == "proofs":
                answer[name] = ()
            elif name == "confidence":
                answer[name] = _CERTAIN
            else:
                answer[name] = self._least(schema, self.region, "")
        most = resolved(self._properties["proofs"], self._root).get("maxItems")
        answer["proofs"] = [
            {"pointer": proof.pointer.removeprefix("/record"), "path": proof.path} for proof in self._proofs[:most]
        ]
        return answer

    def _value(self, schema: object, region: Region, pointer: str) -> Json:
        """A region as the schema wants it, the least value where it does not say enough."""
        found = self._found(resolved(schema, self._root), region, pointer)
        return self._least(schema, region, pointer) if found is _ABSENT else found

    def _found(self, schema: Schema, region: Region, pointer: str) -> Json:
        """A region as the schema wants it."""
        for branch in branches(schema, self._root):
            found = self._found(branch, region, pointer)
            if found is not _ABSENT:
                return found
        if "anyOf" in schema or "oneOf" in schema:
            return _ABSENT
        kinds = scalars.types(schema)
        if "object" in kinds:
            return self._object(schema, region, pointer)
        if "array" in kinds:
            return self._array(schema, region.repeated[0] if region.repeated else (region,), pointer)
        return self._leaf(schema, region.sole_leaf, pointer)

    def _property(self, schema: object, region: Region, name: str, pointer: str) -> Json:
        """What a property of a region's object is; ``_ABSENT`` where the region does not say."""
        schema = resolved(schema, self._root)
        if "anyOf" in schema or "oneOf" in schema:
            found = (self._property(branch, region, name, pointer) for branch in branches(schema, self._root))
            return next((value for value in found if value is not _ABSENT), _ABSENT)
        kinds = scalars.types(schema)
        if "object" in kinds:
            named = next((part for part in region.named(names.key(name)) if part.children), None)
            return _ABSENT if named is None else self._object(schema, named, pointer)
        if "array" in kinds:
            return self._array(schema, self._several(schema, region, name), pointer)
        candidates = (self._leaf(schema, part.sole_leaf, pointer) for part in region.named(names.key(name)))
        return next((value for value in candidates if value is not _ABSENT), _ABSENT)

    def _leaf(self, schema: Schema, leaf: Leaf | None, pointer: str) -> Json:
        value = _ABSENT if leaf is None else self._scalar(schema, leaf.value)
        if leaf is not None and value is not _ABSENT:
            self._proofs.append(Proof(pointer, leaf.path, schema))
        return value

    def _scalar(self, schema: Schema, written: str) -> Json:
        for part in branches(schema, self._root) or (schema,):
            try:
                return scalars.coerced(written, part)
            except scalars.NoFit:
                continue
        return _ABSENT

    def _object(self, schema: Schema, region: Region, pointer: str) -> Json:
        if self._depth >= MAX_DEPTH or self._objects >= MAX_OBJECTS:
            return _ABSENT
        self._depth += 1
        self._objects += 1
        try:
            return self._filled(schema, region, pointer)
        finally:
            self._depth -= 1

    def _filled(self, schema: Schema, region: Region, pointer: str) -> dict[str, Json]:
        if not schema.get("properties"):
            return self._open_map(schema, region, pointer)
        required = schema.get("required", ())
        filled: dict[str, Json] = {}
        for name, part in schema["properties"].items():
            place = f"{pointer}/{_escaped(name)}"
            value = self._property(part, region, name, place)
            if value is _ABSENT and name in required:
                value = self._least(part, region, place)
            if value is not _ABSENT:
                filled[name] = value
        return filled

    def _open_map(self, schema: Schema, region: Region, pointer: str) -> dict[str, Json]:
        """An object whose properties are not named: the leaves by their names, the first of each."""
        others = schema.get("additionalProperties", True)
        filled: dict[str, Json] = {}
        if others is not False:
            part = resolved(others, self._root)
            for leaf in region.leaves:
                if leaf.name not in filled:
                    value = self._leaf(part, leaf, f"{pointer}/{_escaped(leaf.name)}")
                    filled.update({} if value is _ABSENT else {leaf.name: value})
        for name in schema.get("required", ()):
            filled.setdefault(name, None)
        return filled

    def _several(self, schema: Schema, region: Region, name: str) -> Sequence[Region]:
        """The elements or attributes that an array of this name means."""
        for key in (*names.singulars(name), names.key(name)):
            found = region.all_named(key)
            if found:
                return _unpacked(found)
        item = resolved(schema.get("items", {}), self._root)
        return self._alike(item, region) if "object" in scalars.types(item) else ()

    def _alike(self, item: Schema, region: Region) -> Sequence[Region]:
        """The repeated elements that hold most of the properties of an array's objects, at least half of them."""
        wanted = [names.key(name) for name in item.get("properties", {})]
        best: Sequence[Region] = ()
        most = max(1, (len(wanted) + 1) // 2) - 1
        for group in region.repeated:
            held = sum(bool(group[0].named(key)) for key in wanted)
            if held > most:
                best, most = group, held
        return best

    def _array(self, schema: Schema, regions: Sequence[Region], pointer: str) -> Json:
        if not regions:
            return _ABSENT
        item = resolved(schema.get("items", {}), self._root)
        most = schema.get("maxItems")
        filled: list[Json] = []
        for region in regions:
            if isinstance(most, int) and len(filled) >= most:
                break
            value = self._found(item, region, f"{pointer}/{len(filled)}")
            if value is not _ABSENT:
                filled.append(value)
        missing = schema.get("minItems", 0) - len(filled)
        return [*filled, *(self._least(item, regions[0], pointer) for _ in range(missing))]

    def _least(self, schema: object, region: Region, pointer: str) -> Json:
        """The least value that fits, where the subtree has none; parts of an object may still be found."""
        schema = resolved(schema, self._root)
        if nullable(schema, self._root):
            return None
        if "const" in schema or "enum" in schema:
            return scalars.least(schema)
        alternatives = branches(schema, self._root)
        if alternatives:
            return self._least(alternatives[0], region, pointer)
        kinds = scalars.types(schema)
        if "object" in kinds:
            filled = self._object(schema, region, pointer)
            return None if filled is _ABSENT else filled
        if "array" in kinds:
            return [self._least(schema.get("items", {}), region, pointer) for _ in range(schema.get("minItems", 0))]
        return scalars.least(schema)


def _is_plain_entry(schema: Schema) -> bool:
    properties = schema["properties"]
    return len(properties) == 3 and all(
        part.keys() <= {"type", "title", "description"} and part.get("type") == "string" for part in properties.values()
    )


def _unpacked(found: Sequence[Region]) -> Sequence[Region]:
    """The elements of a container where a single one is named like the array: ``OrderItems`` of ``OrderItem``."""
    if len(found) != 1 or found[0].leaf is not None:
        return found
    elements = found[0].elements
    alike = len(elements) > 0 and len({element.name for element in elements}) == 1
    is_container = alike and (len(elements) > 1 or names.key(elements[0].name) in names.singulars(found[0].name))
    return elements if is_container and len(elements) == len(found[0].children) else found


def _escaped(name: str) -> str:
    """A property's name as a step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
