"""Serves a model on this machine."""

from __future__ import annotations

from thresher.cli.failures import say
from thresher.llm.local_server import LocalModel, RunningModel
from thresher.llm.local_server import serve as serve_until_stopped

__all__ = ["LocalModel", "serve"]


def serve(model: LocalModel) -> None:
    """Serves until Ctrl-C.

    Raises:
        BadConfiguration: the packages, the model file or the port cannot be used.
    """

    def announce(running: RunningModel) -> None:
        say(f"{running.name} answers at {running.base_url} (OpenAI-compatible, {model.slots} requests at once).")
        say("In another terminal:")
        say(f"  OPENAI_BASE_URL={running.base_url} MAX_PARALLEL_NODES={model.slots} thresher discover FILE")
        say("Ctrl-C ends it.")

    serve_until_stopped(model, announce)
