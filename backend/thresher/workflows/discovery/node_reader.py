"""Reads one subtree: mask, ask, validate, restore, ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from thresher.core.errors import MalformedDocument
from thresher.engine.ports import AttemptContext
from thresher.llm.client import ModelClient, ModelRequest
from thresher.llm.evidence import Evidence
from thresher.llm.grounding import ground, ground_record
from thresher.llm.masking import Masker, Pseudonyms
from thresher.llm.schema import ResponseSchema
from thresher.llm.structured import AnswerLadder
from thresher.workflows.discovery.answers import NodeAnswer, RecordAnswer, ValueAnswer, record_answer_schema
from thresher.workflows.discovery.configurations import NodeConfiguration
from thresher.workflows.discovery.node_facts import FactValue, NodeFact
from thresher.workflows.discovery.prompts import NODE_FACTS, NODE_RECORD, load_prompt

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

    ``max_tokens``: of one answer. ``max_fields``: entries of fields and references. ``max_value_length``: characters.
    """

    max_tokens: int = 4096
    max_fields: int | None = None
    max_value_length: int | None = None
    temperature: float = 0.0


class NodeReader:
    """Reads subtrees of one path of one document: prompt, schema and client are the same for all of them.

    Used by many threads at once; keeps nothing of what it reads.
    """

    def __init__(
        self,
        client: ModelClient,
        *,
        masker: Masker | None = None,
        bounds: AnswerBounds | None = None,
        document: Mapping[str, str | None] | None = None,
        configuration: NodeConfiguration | None = None,
    ) -> None:
        self._client = client
        self._masker = masker if client.leaves_machine else None
        self._bounds = bounds or AnswerBounds()
        self._context_lines = _context_lines(document or {})
        self._record_schema = configuration.record_schema if configuration is not None else None
        self._schema = self._response_schema()
        self._system = self._system_prompt(configuration)
        self._ladder = AnswerLadder()
        self._parser_options: dict[str, Any] = {
            "resolve_entities": False,
            "no_network": True,
            "load_dtd": False,
            "huge_tree": False,
        }

    @property
    def extractor(self) -> str:
        """Who reads, as rows say it: ``structural``, or provider and model."""
        client = self._client
        return client.provider if client.provider == client.model else f"{client.provider}:{client.model}"

    def read(self, node: Node, context: AttemptContext) -> NodeFact:
        """Reads a subtree.

        Raises:
            RetryableError, PermanentError, FatalError: the model failed (see ``core.errors``).
            AnswerTruncated, PromptTooLong: the subtree is too large for the model: split it.
        """
        root = self._parse(node)
        evidence = Evidence.of(root, node.shells)
        if not evidence.leaves:
            return self._fact(node, 1.0, (), ())
        hidden = self._masker.mask(root) if self._masker is not None else _NOTHING_HIDDEN
        sent = etree.tostring(root, encoding="unicode") if hidden.count else node.xml
        request = ModelRequest(
            system=self._system,
            user=f"{self._context_lines}{sent}",
            subtree=sent,
            schema=self._schema,
            max_output_tokens=self._bounds.max_tokens,
            temperature=self._bounds.temperature,
        )
        context.raise_if_stopping()
        if self._record_schema is not None:
            return self._read_record(node, request, (evidence, hidden), context)
        return self._read_fields(node, request, (evidence, hidden), context)

    def _read_fields(
        self, node: Node, request: ModelRequest, seen: tuple[Evidence, Pseudonyms], context: AttemptContext
    ) -> NodeFact:
        answer = self._ladder.ask(self._client, request, NodeAnswer.model_validate_json, context).value
        fields = _grounded(answer.fields, *seen)
        references = _grounded(answer.references, *seen)
        return self._fact(node, answer.confidence, fields, references, masked=bool(seen[1].count))

    def _read_record(
        self, node: Node, request: ModelRequest, seen: tuple[Evidence, Pseudonyms], context: AttemptContext
    ) -> NodeFact:
        evidence, hidden = seen
        answer = self._ladder.ask(self._client, request, self._validate_record, context).value
        record = hidden.restore_all(answer.record)
        proofs = {proof.pointer: hidden.restore(proof.path) for proof in answer.proofs}
        fields = tuple(
            FactValue(value.pointer, value.value, value.path, value.grounded)
            for value in ground_record(record, proofs, evidence)
        )
        return self._fact(node, answer.confidence, fields, (), masked=bool(hidden.count), record=record)

    def _validate_record(self, text: str) -> RecordAnswer:
        answer = RecordAnswer.model_validate_json(text)
        self._schema.validate({"record": answer.record})
        return answer

    def _fact(
        self,
        node: Node,
        confidence: float,
        fields: Sequence[FactValue],
        references: Sequence[FactValue],
        *,
        masked: bool = False,
        record: Mapping[str, Any] | None = None,
    ) -> NodeFact:
        return NodeFact(
            section_path=node.section_path,
            node_type=node.node_type,
            node_ordinal=node.ordinal,
            extractor=self.extractor,
            confidence=confidence,
            pii_masked=masked,
            fields=fields,
            references=references,
            record=record,
        )

    def _parse(self, node: Node) -> etree._Element:
        try:
            return etree.fromstring(node.xml, etree.XMLParser(**self._parser_options))
        except etree.XMLSyntaxError as error:
            line, column = error.position
            raise MalformedDocument(
                f"The subtree {node.section_path} cannot be read by itself: {error.msg}.", line=line, column=column
            ) from error

    def _response_schema(self) -> ResponseSchema:
        if self._record_schema is not None:
            return ResponseSchema.of_json_schema("node_record", record_answer_schema(self._record_schema))
        return ResponseSchema.of_model(NodeAnswer)

    def _system_prompt(self, configuration: NodeConfiguration | None) -> str:
        """Constant for all subtrees of a path: the rules, then the user's own instructions."""
        prompt = load_prompt(NODE_FACTS if self._record_schema is None else NODE_RECORD).text
        if configuration is None or not configuration.instructions:
            return prompt
        return f"{prompt}\n\nInstructions for this kind of subtree\n{configuration.instructions.strip()}"


def _context_lines(document: Mapping[str, str | None]) -> str:
    """What is known of the document, one line each, before the subtree; the same for equal subtrees."""
    lines = [f"{name}: {value}" for name, value in document.items() if value]
    return "\n".join([*lines, "", ""]) if lines else ""


def _grounded(answers: Sequence[ValueAnswer], evidence: Evidence, hidden: Pseudonyms) -> tuple[FactValue, ...]:
    """Every value looked up at its path, after hidden values have been put back."""
    values = []
    for answer in answers:
        value = hidden.restore(answer.value)
        found = ground(value, answer.path, evidence)
        values.append(FactValue(answer.name, value, found.path, found.grounded))
    return tuple(values)
