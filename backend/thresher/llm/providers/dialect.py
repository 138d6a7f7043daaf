"""Which parts of the chat-completions protocol a server takes; learned from its refusals, once per client."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any

from thresher.llm.client import ModelRequest
from thresher.llm.providers.refusals import Refusal


class SchemaMode(StrEnum):
    """How the shape of the answer is asked for, from the strongest to the weakest."""

    BOUNDED = "json_schema with lengths of strings"
    STRICT = "json_schema"
    OBJECT = "json_object with the schema in the prompt"
    PROMPT = "the schema in the prompt"


_MODES = tuple(SchemaMode)
_OTHER_LIMIT = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form of requests that a server takes. Adapting only ever moves forward, so that it ends."""

    schema_mode: SchemaMode
    limit_name: str  # of the parameter that bounds the answer
    limit_is_settled: bool = False
    sends_temperature: bool = True
    sends_cache_key: bool = False
    checks_schemas: bool = False  # the server means it when it calls a schema invalid: OpenAI and Azure

    def adapted_to(self, refusal: Refusal) -> tuple[Dialect, str] | None:
        """The next dialect to try after a refusal, and a sentence saying what changed; None where none may help."""
        if self.sends_cache_key and refusal.names("prompt_cache_key"):
            return replace(self, sends_cache_key=False), "sent without prompt_cache_key"
        if not self.limit_is_settled and refusal.names(self.limit_name):
            other = _OTHER_LIMIT[self.limit_name]
            return replace(self, limit_name=other, limit_is_settled=True), f"sent with {other}"
        if self.sends_temperature and refusal.names("temperature"):
            return replace(self, sends_temperature=False), "sent without temperature"
        return self._with_weaker_schema(refusal)

    def _with_weaker_schema(self, refusal: Refusal) -> tuple[Dialect, str] | None:
        refused = any(refusal.names(word) for word in ("response_format", "json_schema", "json_object", "grammar"))
        invalid = self.checks_schemas and "invalid schema" in refusal.message.lower()
        if not refused or invalid or self.schema_mode is SchemaMode.PROMPT:
            return None
        weaker = _MODES[_MODES.index(self.schema_mode) + 1]
        return replace(self, schema_mode=weaker), f"asked for {weaker}"

    def envelope(self, model: str, request: ModelRequest) -> tuple[bytes, bytes]:
        """What stands before the user message's text in a request's JSON, and what follows it up to the history.

        Constant for a run, so it is encoded once.
        """
        head: dict[str, Any] = {"model": model, self.limit_name: request.max_output_tokens}
        if self.sends_temperature:
            head["temperature"] = request.temperature
        if response_format := self._response_format(request):
            head["response_format"] = response_format
        system = self._system(request)
        if self.sends_cache_key:
            head["prompt_cache_key"] = sha256(system.encode()).hexdigest()[:32]
        turns = [("system", system)]
        for question, answer in request.examples:
            turns += [("user", question), ("assistant", answer)]
        messages = "".join(f"{json.dumps({'role': role, 'content': text})}, " for role, text in turns)
        opening = f'{json.dumps(head)[:-1]}, "messages": [{messages}{{"role": "user", "content": '
        return opening.encode(), b"}"

    def _response_format(self, request: ModelRequest) -> dict[str, Any] | None:
        return {
            SchemaMode.BOUNDED: request.schema.bounded_format,
            SchemaMode.STRICT: request.schema.response_format,
            SchemaMode.OBJECT: {"type": "json_object"},
            SchemaMode.PROMPT: None,
        }[self.schema_mode]

    def _system(self, request: ModelRequest) -> str:
        if self.schema_mode in (SchemaMode.BOUNDED, SchemaMode.STRICT):
            return request.system
        schema = json.dumps(request.schema.bounded_format["json_schema"]["schema"], ensure_ascii=False)
        return f"{request.system}\n\nAnswer with one JSON value that fits this JSON Schema, and nothing else:\n{schema}"
