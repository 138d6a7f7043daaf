"""The provider ``local``: a real model on this machine, served by a process of its own as long as the client lives."""

from __future__ import annotations

from contextlib import ExitStack

from thresher.llm.local_server import LocalModel, running_local_model
from thresher.llm.prices import Prices
from thresher.llm.providers.openai import Connections, OpenAIClient
from thresher.llm.providers.preparation import OpenAIServer


class LocalClient(OpenAIClient):
    """Starts the model's server and asks it as any OpenAI-compatible one; nothing leaves this machine or costs.

    Raises:
        BadConfiguration: the packages, the model file or the port cannot be used.
    """

    leaves_machine = False
    takes_batches = False  # a model that small mixes them up

    def __init__(self, model: LocalModel, *, timeout: float) -> None:
        with ExitStack() as starting:
            running = starting.enter_context(running_local_model(model))
            super().__init__(
                running.name,
                OpenAIServer(base_url=running.base_url),
                connections=Connections(workers=model.slots, timeout=timeout),
                prices=Prices.free(),
            )
            self.provider = "local"
            self._server = starting.pop_all()

    def close(self) -> None:
        """Closes the connections and ends the server."""
        super().close()
        self._server.close()
