"""The facts of one subtree, each value with the path that proves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from thresher.engine.work import JsonObject, JsonText


class FactValue(msgspec.Struct, frozen=True, gc=False):  # strings are in no circle that would have to be collected
    """A value of a fact. ``path`` is relative to the subtree; ``grounded``: the value stands there, word for word."""

    name: str
    value: str
    path: str
    grounded: bool


@dataclass(frozen=True, slots=True)
class NodeFact:
    """What was found in one subtree.

    ``section_path`` is the subtree's absolute XPath by local names, ``node_ordinal`` its number among the matches
    of its path (from 1), ``extractor`` who read it (``structural``, or provider:model), ``confidence`` 0 to 1,
    ``pii_masked`` whether personal data was replaced before the model saw the subtree. ``record`` is the record
    of the user's own schema where one was configured.
    """

    section_path: str
    node_type: str
    node_ordinal: int
    extractor: str
    confidence: float
    pii_masked: bool
    fields: Sequence[FactValue]
    references: Sequence[FactValue]
    record: JsonObject | None = None

    @property
    def fields_grounded(self) -> int:
        """How many fields are proved."""
        return [field.grounded for field in self.fields].count(True)

    def to_record(self) -> dict[str, Any]:
        """The row as persistence stores it."""
        return {
            "section_path": self.section_path,
            "node_type": self.node_type,
            "node_ordinal": self.node_ordinal,
            "extractor": self.extractor,
            "confidence": self.confidence,
            "pii_masked": self.pii_masked,
            "fields": JsonText(_encode(self.fields).decode()),
            "fields_total": len(self.fields),
            "fields_grounded": self.fields_grounded,
            "references": JsonText(_encode(self.references).decode()),
            "record": self.record,
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON-able values, under the names of the attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "fields": _as_json(self.fields),
            "references": _as_json(self.references),
        }


_encode = msgspec.json.Encoder().encode  # a quarter of the cost of making dictionaries and encoding those


def _as_json(values: Sequence[FactValue]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(value) for value in values]
