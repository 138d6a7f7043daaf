"""Prompts as versioned files: the constant part of every request, first, so that providers' prefix caches hit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

NODE_FACTS = "node_facts.v1"
NODE_RECORD = "node_record.v1"
NODE_FACTS_BATCH = "node_facts_batch.v1"  # several subtrees in one request
NODE_RECORD_BATCH = "node_record_batch.v1"
NODE_FACTS_SMALL = "node_facts_small.v1"  # for models of few parameters: one sentence, and examples as turns

_TURNS = ("\n--- question\n", "\n--- answer\n")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file; ``version`` is its name. ``examples`` are (question, answer) turns."""

    version: str
    text: str
    examples: tuple[tuple[str, str], ...] = ()


@cache
def load_prompt(version: str) -> Prompt:
    """Reads a prompt file of this folder: its text, then ``--- question`` and ``--- answer`` parts in turn.

    Raises:
        FileNotFoundError: there is no such prompt.
    """
    text = files(__package__).joinpath(f"{version}.md").read_text(encoding="utf-8")
    rules, *turns = text.split(_TURNS[0])
    examples = [turn.split(_TURNS[1]) for turn in turns]
    return Prompt(version, rules.strip(), tuple((question.strip(), answer.strip()) for question, answer in examples))
