"""What a request may take at most, before it is sent: the measure of reservations and the base of estimates."""

from __future__ import annotations

import json
from functools import lru_cache

from thresher.engine.budget import Spending
from thresher.engine.work import Usage
from thresher.llm.client import ModelRequest
from thresher.llm.prices import Price
from thresher.llm.schema import ResponseSchema

_BYTES_AROUND_A_MESSAGE = 64  # its role, and what a chat template puts around it
_BYTES_AROUND_A_PROMPT = 256  # the sentence that introduces a schema, and what a template puts at both ends


def prompt_bytes(request: ModelRequest) -> int:
    """UTF-8 bytes of all that a prompt is made of: the texts, the schema, and room for what a server adds.

    A token of any tokenizer stands for at least one byte, so that these are the most tokens it can have.
    """
    texts = [request.user, *(text for _, text in request.history)]
    varying = sum(len(text.encode("utf-8", "surrogatepass")) + _BYTES_AROUND_A_MESSAGE for text in texts)
    return varying + _constant_bytes(request.system, request.examples, request.schema)


@lru_cache(maxsize=64)
def _constant_bytes(system: str, examples: tuple[tuple[str, str], ...], schema: ResponseSchema) -> int:
    """What is the same for all prompts of a run."""
    texts = [system, *(text for turn in examples for text in turn)]
    shape = json.dumps(schema.bounded_format, ensure_ascii=False)
    return sum(len(text.encode()) + _BYTES_AROUND_A_MESSAGE for text in (*texts, shape)) + _BYTES_AROUND_A_PROMPT


def worst_case(request: ModelRequest, price: Price | None) -> Spending:
    """The most that a request can take: a token for each byte of its prompt, an answer as long as it may be."""
    prompt, answer = prompt_bytes(request), request.max_output_tokens
    cost = None if price is None else price.most(prompt, answer)
    return Spending(prompt + answer, cost)


def spending(usage: Usage) -> Spending | None:
    """What a reply took; None where its server did not say."""
    tokens = usage.prompt_tokens + usage.completion_tokens
    return Spending(tokens, usage.cost_usd) if tokens else None
