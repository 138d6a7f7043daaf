"""What a model is asked to answer for one subtree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict

_CONFIDENCE_WORDS = {"very high": 0.95, "high": 0.9, "medium": 0.6, "moderate": 0.6, "low": 0.3, "very low": 0.1}


def _as_share(value: object) -> object:
    """Confidence as models write it ("high", "90%", 90) as a share of 1."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _CONFIDENCE_WORDS:
            return _CONFIDENCE_WORDS[text]
        if text.endswith("%"):
            return _percent(text[:-1])
        return _percent(text)
    return _percent(value)


def _percent(value: object) -> object:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever it is, pydantic speaks the last word
    except (TypeError, ValueError):
        return value
    return number / 100 if 1 < number <= 100 else number  # per cent


Confidence = Annotated[float, BeforeValidator(_as_share), Field(ge=0, le=1)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class ValueAnswer(TypedDict):
    """One value with the place that proves it; ``path`` is relative to the subtree."""

    __pydantic_config__ = _Answer.model_config  # type: ignore[misc]  # pydantic reads it there
    name: Annotated[str, Field(description="what the value is, a short name taken from the XML")]
    value: Annotated[str, Field(description="the value exactly as it is written in the XML")]
    path: Annotated[
        str, Field(description="where it stands: element names from the root's children down, @name for attributes")
    ]


class NodeAnswer(_Answer):
    """The facts of one subtree. ``node_ordinal`` counts the subtrees of one request, from 1."""

    node_type: str = Field(description="the name of the subtree's root element")
    node_ordinal: int = Field(description="1 for the first subtree of the request")
    fields: list[ValueAnswer] = Field(description="every fact of the subtree")
    references: list[ValueAnswer] = Field(description="ids that point to elements elsewhere in the document")
    confidence: Confidence = Field(description="from 0 to 1")


class ReadValue(msgspec.Struct, gc=False):  # strings are in no circle that would have to be collected
    """A ``ValueAnswer`` as it was read."""

    name: str
    value: str
    path: str


class ReadAnswer(msgspec.Struct):
    """A ``NodeAnswer`` as it was read."""

    node_type: str
    node_ordinal: int
    fields: list[ReadValue]
    references: list[ReadValue]
    confidence: float

    @classmethod
    def of_json(cls, text: str) -> ReadAnswer:
        """The answer that a text is. What keeps to the schema to the letter is read at a third of the cost.

        Raises:
            ValueError: it does not fit (``pydantic.ValidationError``, which says why).
        """
        try:
            answer = _to_the_letter(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return cls.of(NodeAnswer.model_validate_json(text))
        if 0 <= answer.confidence <= 1:
            return answer
        return cls.of(NodeAnswer.model_validate_json(text))

    @classmethod
    def of(cls, answer: NodeAnswer) -> ReadAnswer:
        """One that may have been written less strictly."""
        fields, references = _read(answer.fields), _read(answer.references)
        return cls(answer.node_type, answer.node_ordinal, fields, references, answer.confidence)


_to_the_letter = msgspec.json.Decoder(ReadAnswer).decode


def _read(values: Iterable[ValueAnswer]) -> list[ReadValue]:
    return [ReadValue(value["name"], value["value"], value["path"]) for value in values]


class Proof(_Answer):
    """Where one value of a record stands: a JSON pointer into the record, a path in the subtree."""

    pointer: str = Field(description="JSON pointer to the value in the record, such as /passenger/name")
    path: str = Field(description="where it stands in the XML: element names, @name for attributes")


class RecordAnswer(_Answer):
    """A record of the user's own schema, with a proof for each of its values."""

    record: dict[str, Any]
    proofs: list[Proof]
    confidence: Confidence
