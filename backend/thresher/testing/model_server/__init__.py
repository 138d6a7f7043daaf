"""A model server for tests and benchmarks: OpenAI-compatible HTTP on loopback that answers from the prompt's subtree.

``python -m thresher.testing.model_server`` runs it; ``running_model_server`` runs it in a process of its own for the
length of a ``with`` block. docs/reference/model-server.md says what each flag does.
"""

from __future__ import annotations

from thresher.testing.model_server.process import RunningModelServer, running_model_server

__all__ = ["RunningModelServer", "running_model_server"]
