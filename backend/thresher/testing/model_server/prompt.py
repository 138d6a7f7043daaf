"""What a chat completion asks: the subtree in its prompt, and the schema of its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

_FIRST_TAG_LINE = re.compile(r"^[ \t]*<", re.MULTILINE)
_PART = re.compile(r'^<subtree id="([^"<>]+)">\n(.*?)\n</subtree>$', re.MULTILINE | re.DOTALL)
_ENTRY_PLACE = "#/properties/answers/items"

_TEXT = {"type": "string"}
_ENTRY = {
    "type": "object",
    "properties": {"name": _TEXT, "value": _TEXT, "path": _TEXT},
    "required": ["name", "value", "path"],
    "additionalProperties": False,
}
_LIST = {"type": "array", "items": _ENTRY}
DEFAULT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "node_type": _TEXT,
        "node_ordinal": {"type": "integer"},
        "fields": _LIST,
        "references": _LIST,
        "confidence": {"type": "number"},
    },
    "required": ["node_type", "node_ordinal", "fields", "references", "confidence"],
    "additionalProperties": False,
}
"""What is answered where the client sends no schema: every leaf, as discovery asks for them."""


class UnusableRequest(ValueError):
    """Raised when the body of a request is no chat completion that this server knows."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of several subtrees in a request."""

    identity: str
    subtree: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat completion's request. ``subtree`` is empty where no message of the user holds XML."""

    model: str
    schema: Mapping[str, Any]
    subtree: str
    last_message: str
    characters: int

    @property
    def parts(self) -> Sequence[Part]:
        """The subtrees of a request that asks about several (its schema wants ``answers`` with ids); else none."""
        if _entry(self.schema) is None:
            return ()
        return [Part(identity, subtree) for identity, subtree in _PART.findall(self.subtree)]

    @property
    def entry_schema(self) -> Mapping[str, Any]:
        """The schema of one answer among several, by itself and without its id."""
        entry = _entry(self.schema)
        if entry is None:
            return self.schema
        groups = {group: self.schema[group] for group in ("$defs", "definitions") if group in self.schema}
        properties = {name: part for name, part in entry["properties"].items() if name != "id"}
        required = [name for name in entry.get("required", ()) if name != "id"]
        moved: Mapping[str, Any] = _by_itself({**entry, "properties": properties, "required": required, **groups})
        return moved

    @classmethod
    def of(cls, body: bytes) -> Prompt:
        """Reads a request.

        Raises:
            UnusableRequest: the message says what is wrong with it.
        """
        request = _json_object(body)
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(entry, dict) for entry in messages):
            raise UnusableRequest("'messages' must be a list of messages")
        if request.get("stream"):
            raise UnusableRequest("'stream' is not supported by this server")
        texts = [(str(entry.get("role")), _text(entry.get("content"))) for entry in messages]
        asked = [text for role, text in texts if role == "user"]
        return cls(
            model=str(request.get("model") or "model"),
            schema=_schema(request.get("response_format")),
            subtree=_subtree(asked),
            last_message=texts[-1][1],
            characters=sum(len(text) for _, text in texts),
        )


def _entry(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of an entry, where a list of entries with ids is wanted."""
    properties = schema.get("properties", {})
    items = properties["answers"].get("items", {}) if properties.keys() == {"answers"} else {}
    return items if isinstance(items, dict) and "id" in items.get("properties", {}) else None


def _by_itself(value: Any) -> Any:  # noqa: ANN401 # any part of a schema
    if isinstance(value, list):
        return [_by_itself(part) for part in value]
    if not isinstance(value, dict):
        return value
    moved = {key: _by_itself(part) for key, part in value.items()}
    if isinstance(moved.get("$ref"), str):
        moved["$ref"] = moved["$ref"].replace(_ENTRY_PLACE, "#", 1)
    return moved


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        request = from_json(body)
    except ValueError as error:
        raise UnusableRequest("the body is no JSON") from error
    if not isinstance(request, dict):
        raise UnusableRequest("the body is no JSON object")
    return request


def _text(content: object) -> str:
    """A message's content: a text, or a list of parts with texts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _schema(response_format: object) -> Mapping[str, Any]:
    if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
        return DEFAULT_SCHEMA
    wrapper = response_format.get("json_schema")
    schema = wrapper.get("schema") if isinstance(wrapper, dict) else None
    if not isinstance(schema, dict):
        raise UnusableRequest("'response_format.json_schema.schema' must be a JSON Schema")
    return schema


def _subtree(asked: Sequence[str]) -> str:
    """The XML of the last message that holds any: from the first line that starts with < to the last >."""
    return next(_subtrees(asked), "")


def _subtrees(asked: Sequence[str]) -> Iterator[str]:
    for text in reversed(asked):
        start = _FIRST_TAG_LINE.search(text)
        end = text.rfind(">") + 1
        if start is not None and end > start.end():
            yield text[start.end() - 1 : end]
