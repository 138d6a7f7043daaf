"""Reads one subtree: mask, ask, validate, restore, ground."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from lxml import etree

from thresher.core.errors import MalformedDocument
from thresher.engine.attempt import storable
from thresher.engine.ports import AttemptContext
from thresher.llm.client import ModelClient, ModelRequest
from thresher.llm.evidence import Evidence
from thresher.llm.grounding import ground, ground_record, read_as_written
from thresher.llm.masking import Masker, Pseudonyms
from thresher.llm.providers.structural import parse_subtree
from thresher.llm.schema import RecordSchema, ResponseSchema
from thresher.llm.shapes import Shapes
from thresher.llm.structured import Answer, AnswerLadder
from thresher.workflows.discovery.answers import NodeAnswer, ReadAnswer, ReadValue, RecordAnswer
from thresher.workflows.discovery.configurations import NodeConfiguration
from thresher.workflows.discovery.node_facts import FactValue, NodeFact
from thresher.workflows.discovery.prompts import NODE_FACTS, NODE_FACTS_SMALL, NODE_RECORD, Prompt, load_prompt

T = TypeVar("T")

_NOTHING_HIDDEN = Pseudonyms()


@dataclass(frozen=True, slots=True)
class Node:
    """One subtree to be read. ``shells``: see ``llm.evidence``; empty where the subtree is whole."""

    xml: str
    section_path: str
    node_type: str
    ordinal: int
    shells: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnswerBounds:
    """Bounds on an answer, for models that do not know when to stop; None leaves it open.

    ``is_small_model`` asks in fewer words. ``max_tokens``: of one answer.
    ``max_fields``: entries of fields and references. ``max_value_length``: characters.
    """

    max_tokens: int = 4096
    is_small_model: bool = False
    max_fields: int | None = None
    max_value_length: int | None = None
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A subtree as the model will see it. ``sent`` is its XML, in which ``hidden`` stands for personal data."""

    node: Node
    evidence: Evidence
    hidden: Pseudonyms
    sent: str


class Ladder(Protocol):
    """Who gets an answer: see ``llm.structured.AnswerLadder``."""

    def ask(
        self, client: ModelClient, request: ModelRequest, validate: Callable[[str], T], context: AttemptContext
    ) -> Answer[T]:
        """Returns an answer that ``validate`` accepts."""


class NodeReader:
    """Reads subtrees of one path of one document: prompt, schema and client are the same for all of them.

    Used by many threads at once; keeps no value of what it reads.
    """

    def __init__(  # noqa: PLR0913 # the parts of a reader, each by its name
        self,
        client: ModelClient,
        *,
        masker: Masker | None = None,
        bounds: AnswerBounds | None = None,
        document: Mapping[str, str | None] | None = None,
        configuration: NodeConfiguration | None = None,
        ladder: Ladder | None = None,
    ) -> None:
        """``ladder`` asks the model; an ``AnswerCache`` asks only where no answer is known."""
        self.client = client
        self._masker = masker if client.leaves_machine else None
        self._shapes = Shapes()
        self.bounds = bounds or AnswerBounds()
        self.context_lines = "" if self.bounds.is_small_model else _context_lines(document or {})
        self.record = _record_schema(configuration)
        self.schema = self.record.response if self.record is not None else _fields_schema(self.bounds)
        self._configuration = configuration
        self._prompt = self._choose_prompt()
        self._system = self.with_instructions(self._prompt)
        self.ladder = ladder or AnswerLadder()

    @property
    def extractor(self) -> str:
        """Who reads, as rows say it: ``structural``, or provider and model."""
        client = self.client
        return client.provider if client.provider == client.model else f"{client.provider}:{client.model}"

    def read(self, node: Node, context: AttemptContext) -> NodeFact:
        """Reads a subtree.

        Raises:
            RetryableError, PermanentError, FatalError: the model failed (see ``core.errors``).
            AnswerTruncated, PromptTooLong: the subtree is too large for the model: split it.
        """
        seen = self.see(node)
        if seen.evidence.is_empty:
            return self.nothing_in(seen)
        request = self.request(seen)
        context.raise_if_stopping()
        return self.fact(seen, self.ladder.ask(self.client, request, self.validated, context).value)

    def question(self, node: Node) -> ModelRequest | None:
        """What is asked of the model about a subtree; None where it holds nothing to read."""
        seen = self.see(node)
        return None if seen.evidence.is_empty else self.request(seen)

    def request(self, seen: Seen) -> ModelRequest:
        """The question about one subtree."""
        return ModelRequest(
            system=self._system,
            user=f"{self.context_lines}{seen.sent}",
            subtree=seen.sent,
            schema=self.schema,
            max_output_tokens=self.bounds.max_tokens,
            temperature=self.bounds.temperature,
            examples=self._prompt.examples,
            # Not what was read before values were hidden, nor by the numbers that a shell's children have elsewhere.
            evidence=None if seen.hidden.count or seen.node.shells else seen.evidence,
        )

    def validated(self, text: str) -> ReadAnswer | RecordAnswer:
        """An answer about one subtree.

        Raises:
            ValueError: it does not fit.
        """
        if self.record is None:
            return ReadAnswer.of_json(text)
        return self._validated_record(read_as_written(text), self.record)

    def validated_value(self, value: object) -> ReadAnswer | RecordAnswer:
        """The same of an answer that has been parsed.

        Raises:
            ValueError: it does not fit.
        """
        if self.record is None:
            return ReadAnswer.of(NodeAnswer.model_validate(value))
        return self._validated_record(value, self.record)

    def see(self, node: Node) -> Seen:
        """Parses a subtree and hides what must not leave this machine.

        Raises:
            MalformedDocument: it is not well-formed.
        """
        reading = None if node.shells else self._shapes.read(node.xml)
        if reading is not None:
            evidence = reading.evidence()
            if evidence.is_empty or self._masker is None:
                return Seen(node, evidence, _NOTHING_HIDDEN, node.xml)
            return Seen(node, evidence, *reading.masked())
        root = _parsed(node)
        evidence = Evidence.of(root, node.shells)
        if evidence.is_empty or self._masker is None:
            return Seen(node, evidence, _NOTHING_HIDDEN, node.xml)
        hidden = self._masker.mask(root)
        return Seen(node, evidence, hidden, etree.tostring(root, encoding="unicode") if hidden.count else node.xml)

    def nothing_in(self, seen: Seen) -> NodeFact:
        """The fact of a subtree that says nothing: no model needs to be asked."""
        return self._fact(seen.node, _Found(1.0, (), ()), _NOTHING_HIDDEN)

    def fact(self, seen: Seen, answer: ReadAnswer | RecordAnswer) -> NodeFact:
        """What an answer comes to: hidden values put back, every value looked up in its own subtree."""
        if isinstance(answer, RecordAnswer):
            return self._record_fact(seen, answer)
        evidence, hidden = seen.evidence, seen.hidden
        fields, references = (_grounded(some, evidence, hidden) for some in (answer.fields, answer.references))
        return self._fact(seen.node, _Found(answer.confidence, fields, references), hidden)

    def _record_fact(self, seen: Seen, answer: RecordAnswer) -> NodeFact:
        node, hidden = seen.node, seen.hidden
        proofs = {proof.pointer: hidden.restore(proof.path) for proof in answer.proofs}
        grounded = ground_record(_restored(answer.record, hidden), proofs, seen.evidence)
        fields = tuple(
            FactValue(storable(value.pointer), storable(value.value), storable(value.path), value.grounded)
            for value in grounded.values
        )
        return self._fact(node, _Found(answer.confidence, fields, (), _mapping(grounded.record)), hidden)

    @staticmethod
    def _validated_record(value: object, schema: RecordSchema) -> RecordAnswer:
        """An answer with a record, as the user's schema wants it."""
        answer = RecordAnswer.model_validate(value)
        return answer.model_copy(update={"record": schema.validate(answer.record)})

    def with_instructions(self, prompt: Prompt) -> str:
        """The constant part of every request: the rules, then the user's own instructions for the path."""
        return _with_instructions(prompt.text, self._configuration)

    def _fact(self, node: Node, found: _Found, hidden: Pseudonyms) -> NodeFact:
        return NodeFact(
            section_path=node.section_path,
            node_type=node.node_type,
            node_ordinal=node.ordinal,
            extractor=self.extractor,
            confidence=found.confidence,
            pii_masked=bool(hidden.count),
            fields=found.fields,
            references=found.references,
            record=found.record,
        )

    def _choose_prompt(self) -> Prompt:
        if self.record is not None:
            return load_prompt(NODE_RECORD)
        return load_prompt(NODE_FACTS_SMALL if self.bounds.is_small_model else NODE_FACTS)


def _with_instructions(rules: str, configuration: NodeConfiguration | None) -> str:
    """Constant for all subtrees of a path: the rules, then the user's own instructions."""
    if configuration is None or not configuration.instructions:
        return rules
    return f"{rules}\n\nInstructions for this kind of subtree\n{configuration.instructions.strip()}"


@dataclass(frozen=True, slots=True)
class _Found:
    """What an answer came to, hidden values put back and every value looked up."""

    confidence: float
    fields: Sequence[FactValue]
    references: Sequence[FactValue]
    record: Mapping[str, Any] | None = None


def _parsed(node: Node) -> etree._Element:
    """The subtree as a tree.

    Raises:
        MalformedDocument: it is not well-formed, which the splitter does not let happen.
    """
    try:
        return parse_subtree(node.xml)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        sentence = f"The subtree {node.section_path} cannot be read by itself: {error.msg}."
        raise MalformedDocument(sentence, line=line, column=column) from error


def _record_schema(configuration: NodeConfiguration | None) -> RecordSchema | None:
    if configuration is None or configuration.record_schema is None:
        return None
    return RecordSchema.of("node_record", configuration.record_schema)


def _fields_schema(bounds: AnswerBounds) -> ResponseSchema:
    """The default answer; with bounds, lengths are sent where servers take them."""
    if bounds.max_fields is None and bounds.max_value_length is None:
        return ResponseSchema.of_model(NodeAnswer)
    schema = NodeAnswer.model_json_schema()
    for name in ("fields", "references"):
        if bounds.max_fields is not None:
            schema["properties"][name]["maxItems"] = bounds.max_fields
    if bounds.max_value_length is not None:
        for name in ("name", "value", "path"):
            schema["$defs"]["ValueAnswer"]["properties"][name]["maxLength"] = bounds.max_value_length
    return ResponseSchema.of_json_schema("NodeAnswer", schema)


def _restored(value: Any, hidden: Pseudonyms) -> Any:  # noqa: ANN401 # any JSON value
    """A JSON value with hidden values put back in all its texts."""
    if isinstance(value, str):
        return hidden.restore(value)
    if isinstance(value, dict):
        return {key: _restored(entry, hidden) for key, entry in value.items()}
    if isinstance(value, list):
        return [_restored(entry, hidden) for entry in value]
    return value


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _context_lines(document: Mapping[str, str | None]) -> str:
    """What is known of the document, one line each, before the subtree; the same for equal subtrees."""
    lines = [f"{name}: {value}" for name, value in document.items() if value]
    return "\n".join([*lines, "", ""]) if lines else ""


def _grounded(answers: Sequence[ReadValue], evidence: Evidence, hidden: Pseudonyms) -> tuple[FactValue, ...]:
    """Every value looked up at its path, after hidden values have been put back.

    Nearly all of them are written as they stand: those are found without a call.
    """
    values, standing = [], evidence.first_values
    for answer in answers:
        name, value, path = answer.name, answer.value, answer.path
        if "_" in value:  # every pseudonym has one
            value = hidden.restore(value)
        if "_" in path:
            path = hidden.restore(path)
        if not name.isascii() or "\0" in name:
            name = storable(name)
        if standing.get(path) == value:  # text of the document, which every database takes
            values.append(FactValue(name, value, path, grounded=True))
            continue
        is_proved, place = ground(value, path, evidence)
        if not is_proved:
            value, place = storable(value), storable(place)
        values.append(FactValue(name, value, place, grounded=is_proved))
    return tuple(values)
