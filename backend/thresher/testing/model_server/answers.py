"""Answers: made once for each distinct request, then kept, so that repeats cost next to nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from lxml import etree
from pydantic_core import to_json

from thresher.llm.evidence import Evidence
from thresher.llm.providers.structural import parse_subtree
from thresher.llm.structural.fill import fill, fill_with_proofs
from thresher.llm.structural.scalars import to_text
from thresher.testing.model_server.faults import Draw, Lottery
from thresher.testing.model_server.lies import Liar, Lie
from thresher.testing.model_server.options import Options
from thresher.testing.model_server.prompt import Prompt

MAX_ANSWERS_KEPT = 8_192
EXCERPT_CHARACTERS = 80
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class AnsweredPart:
    """What is answered about one subtree, by its sha256."""

    key: str
    excerpt: str
    value: Any
    lies: Sequence[Lie]


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole and true answer to a request; ``key`` is the sha256 of the subtree, of the last message without one.

    ``parts`` are what was asked about: one subtree, or several, each with its entry of the answer.
    """

    key: str
    subtree: str
    model: str
    content: str
    prompt_tokens: int
    body: bytes
    parts: Sequence[AnsweredPart]

    @property
    def completion_tokens(self) -> int:
        """About what a model would have written."""
        return tokens(self.content)


def tokens(text: str) -> int:
    """An estimate, at least 1."""
    return max(1, len(text) // CHARACTERS_PER_TOKEN)


class Answers:
    """Makes and keeps answers, the newest ones, by the bytes of the request."""

    def __init__(self, options: Options, lottery: Lottery) -> None:
        self._lies = options.faults.lie > 0
        self._liar = Liar(options.faults.lie, lottery)
        self._kept: OrderedDict[bytes, Answer] = OrderedDict()

    def of(self, body: bytes) -> Answer:
        """The answer to a request.

        Raises:
            UnusableRequest: it is none that can be answered.
        """
        answer = self._kept.get(body)
        if answer is None:
            answer = self._kept[body] = self._made(Prompt.of(body))
            if len(self._kept) > MAX_ANSWERS_KEPT:
                self._kept.popitem(last=False)
        return answer

    def _told(self, schema: Mapping[str, Any], subtree: str, key: str) -> tuple[Any, Sequence[Lie]]:
        evidence = _evidence(subtree)
        if not self._lies:
            return fill(schema, evidence), ()
        value, proofs = fill_with_proofs(schema, evidence)
        return value, self._liar.tell(value, proofs, key, subtree)

    def _part(self, schema: Mapping[str, Any], subtree: str, source: str) -> AnsweredPart:
        key = _key(source)
        excerpt = " ".join(source[: 4 * EXCERPT_CHARACTERS].split())[:EXCERPT_CHARACTERS]
        return AnsweredPart(key, excerpt, *self._told(schema, subtree, key))

    def _several(self, prompt: Prompt) -> Sequence[AnsweredPart]:
        schema, answered = prompt.entry_schema, []
        for asked in prompt.parts:
            part = self._part(schema, asked.subtree, asked.subtree)
            answered.append(replace(part, value={"id": asked.identity, **part.value}))
        return answered

    def _made(self, prompt: Prompt) -> Answer:
        source = prompt.subtree or prompt.last_message
        several = self._several(prompt)
        parts = several or [self._part(prompt.schema, prompt.subtree, source)]
        key = _key(source)
        content = to_text({"answers": [part.value for part in several]} if several else parts[0].value)
        prompt_tokens = max(1, prompt.characters // CHARACTERS_PER_TOKEN)
        return Answer(
            key=key,
            subtree=prompt.subtree,
            model=prompt.model,
            content=content,
            prompt_tokens=prompt_tokens,
            body=completion(key, prompt.model, content, prompt_tokens),
            parts=parts,
        )


def spoiled(answer: Answer, draw: Draw) -> bytes:
    """The body of an answer that was drawn to be cut, fenced or wrapped in prose."""
    content, finish_reason = answer.content if draw.order is None else _reordered(answer, draw.order), "stop"
    if draw.fenced:
        content = f"```json\n{content}\n```"
    if draw.prose:
        content = f"Sure! Here is what I found in the subtree:\n\n{content}\n\nLet me know if you need anything else."
    if draw.cut < 1.0:
        content, finish_reason = content[: int(len(content) * draw.cut)], "length"
    return completion(answer.key, answer.model, content, answer.prompt_tokens, finish_reason)


def _reordered(answer: Answer, order: Sequence[tuple[int, int]]) -> str:
    """Some of the entries of an answer, each under the id of some entry: what was drawn."""
    values = [part.value for part in answer.parts]
    return to_text({"answers": [{**values[entry], "id": values[under]["id"]} for entry, under in order]})


def _key(source: str) -> str:
    return sha256(source.encode("utf-8", "replace")).hexdigest()


def completion(key: str, model: str, content: str, prompt_tokens: int, finish_reason: str = "stop") -> bytes:
    """A chat completion's body."""
    completion_tokens = tokens(content)
    body: dict[str, Any] = {
        "id": f"chatcmpl-{key[:24]}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    return to_json(body)


def _evidence(subtree: str) -> Evidence:
    """What the subtree says: of several in a row, all; nothing where it is no XML."""
    for text in (subtree, f"<subtrees>{subtree}</subtrees>"):
        try:
            return Evidence.of(parse_subtree(text))
        except etree.XMLSyntaxError:
            continue
    return Evidence("prompt", ())
