"""Serves a model on this machine."""

from __future__ import annotations

from pathlib import Path

from thresher.cli.failures import say
from thresher.llm.local_server import LocalModel, RunningModel
from thresher.llm.local_server import serve as serve_until_stopped


def serve(port: int, gguf: Path | None, slots: int, context: int) -> None:
    """Serves until Ctrl-C.

    Raises:
        BadConfiguration: the packages, the model file or the port cannot be used.
    """

    def announce(running: RunningModel) -> None:
        say(f"{running.name} answers at {running.base_url} (OpenAI-compatible, {slots} at once). In another terminal:")
        say(f"  OPENAI_BASE_URL={running.base_url} LLM_MODEL={running.name} thresher discover FILE")
        say("Ctrl-C ends it.")

    serve_until_stopped(LocalModel(gguf=gguf, port=port, slots=slots, context_tokens=context), announce)
