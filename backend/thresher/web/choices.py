"""What somebody has chosen on the page of a document: which nodes are read, and how."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import ValidationError

from thresher.core.config import ProcessingMode
from thresher.core.errors import BadInput
from thresher.engine.budget import Budget
from thresher.engine.work import Priority
from thresher.operations.runs import RunOptions
from thresher.web.deps import Fields
from thresher.workflows.discovery import NodeConfiguration

_SHALLOW = 3  # levels that are always shown
_DEEPEST = 14  # levels that are indented
INSTRUCTIONS, SCHEMA = "instructions:", "schema:"  # names of fields, before a path


@dataclass(frozen=True, slots=True)
class How:
    """How the nodes of one path are read, as it was written into the form."""

    instructions: str = ""
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the form holds. ``offered``: what was ticked before anybody had changed anything."""

    taken: frozenset[str]
    offered: frozenset[str]
    how: Mapping[str, How] = field(default_factory=dict)
    limit: str = ""
    mode: str = ""
    priority: str = Priority.NORMAL.label
    budget: str = ""
    name: str | None = None

    @classmethod
    def of_analysis(cls, analysis: Mapping[str, Any], name: str | None) -> Self:
        """What is offered: the paths that a run without further options reads, as they are configured."""
        nodes = {node["path"]: node for node in analysis["nodes"] if node.get("enabled", True)}
        taken, how = set(), {}
        for entry in analysis["paths"]:
            node = next((node for path, node in nodes.items() if _is_meant(entry["path"], path)), None)
            if node is not None:
                schema = node.get("schema")
                written = "" if schema is None else json.dumps(schema, indent=2, ensure_ascii=False)
                how[entry["path"]] = How(node.get("instructions") or "", written)
            if node is not None or (entry["chosen"] and not nodes):
                taken.add(entry["path"])
        return cls(frozenset(taken), frozenset(taken), how, name=name)

    @classmethod
    def of_form(cls, fields: Fields) -> Self:
        """What was sent."""
        paths = {key.partition(":")[2] for key in fields if key.startswith((INSTRUCTIONS, SCHEMA))}
        how = {path: How(_one(fields, INSTRUCTIONS + path), _one(fields, SCHEMA + path)) for path in paths}
        return cls(
            frozenset(fields.get("take", ())),
            frozenset(fields.get("offered", ())),
            {path: one for path, one in how.items() if one != How()},
            limit=_one(fields, "limit"),
            mode=_one(fields, "mode"),
            priority=_one(fields, "priority"),
            budget=_one(fields, "budget"),
            name=_one(fields, "name") or None,
        )

    def options(self) -> RunOptions:
        """The same for a run; where nothing was changed, what a run without options reads.

        Raises:
            BadInput: something of it cannot be used; the message says where.
        """
        if not self.taken and self.offered:
            raise BadInput("Tick at least one node: nothing would be read.")
        nodes = tuple(self._nodes())
        is_as_offered = self.taken == self.offered and not nodes
        return RunOptions(
            paths=() if is_as_offered else sorted(self.taken),
            nodes=nodes,
            limit=self._limit(),
            mode=ProcessingMode(self.mode) if self.mode in set(ProcessingMode) else None,
            priority=next((one for one in Priority if one.label == self.priority), Priority.NORMAL),
            budget=Budget.parse(self.budget) if self.budget else None,
        )

    def _nodes(self) -> Iterator[NodeConfiguration]:
        for path, how in self.how.items():
            if path not in self.taken:
                continue
            try:
                said = {"path": path, "instructions": how.instructions or None, "schema": _schema(path, how.schema)}
                yield NodeConfiguration.model_validate(said)
            except ValidationError as error:
                why = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
                raise BadInput(f"{path}: {why}") from error

    def _limit(self) -> int | None:
        if not self.limit:
            return None
        if not self.limit.isdecimal() or not 1 <= int(self.limit) < 10**9:
            raise BadInput("The number of subtrees must be 1 or more, or left empty for all.")
        return int(self.limit)


def _one(fields: Fields, name: str) -> str:
    return fields.get(name, [""])[-1].strip()


def _schema(path: str, text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise BadInput(f"The schema of {path} is no JSON: {error}.") from error
    if not isinstance(schema, dict):
        raise BadInput(f"The schema of {path} is no JSON Schema: it must be an object, {{...}}.")
    return schema


def _is_meant(path: str, configured: str) -> bool:
    """Whether an element's absolute path is one that a configuration names from somewhere within the document."""
    return path == configured or path.endswith("/" + configured.lstrip("/"))


def indented(paths: Sequence[Mapping[str, Any]], taken: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of the tree: ``level``, ``name``, ``is_deep`` (hidden at first), ``share`` of the whole in percent."""
    around = {path[:cut] for path in taken for cut in range(len(path)) if path[cut] == "/"} | taken
    whole = max((entry["bytes_total"] for entry in paths), default=0) or 1
    for entry in paths:
        path = entry["path"]
        yield {
            **entry,
            "level": min(entry["depth"], _DEEPEST) - 1,
            "name": path.rpartition("/")[2],
            "is_deep": entry["depth"] > _SHALLOW and path not in around,
            "share": 100 * entry["bytes_total"] / whole,
        }
