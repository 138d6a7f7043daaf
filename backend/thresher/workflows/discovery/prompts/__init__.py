"""Prompts as versioned files: the constant part of every request, first, so that providers' prefix caches hit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

NODE_FACTS = "node_facts.v1"
NODE_RECORD = "node_record.v1"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file; ``version`` is its name, which is stored with what it yielded."""

    version: str
    text: str


@cache
def load_prompt(version: str) -> Prompt:
    """Reads a prompt file of this folder.

    Raises:
        FileNotFoundError: there is no such prompt.
    """
    text = files(__package__).joinpath(f"{version}.md").read_text(encoding="utf-8")
    return Prompt(version, text.strip())
