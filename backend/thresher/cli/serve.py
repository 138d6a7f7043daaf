"""Serves the API."""

from __future__ import annotations

from thresher.cli.failures import ExitCode, say
from thresher.core.config import Settings
from thresher.main import serve as serve_until_stopped


def serve(settings: Settings) -> ExitCode:
    """Serves until Ctrl-C or SIGTERM.

    Raises:
        BadConfiguration, DatabaseUnusable: it cannot; the message says why.
    """
    if not serve_until_stopped(settings, _announce):
        say("Nodes in hand were left: they go on with the next server.")
        return ExitCode.INTERRUPTED
    return ExitCode.SUCCEEDED


def _announce(address: str, is_public: bool) -> None:  # noqa: FBT001 # as the server calls it
    say(f"Thresher serves at {address} (API: {address}/openapi.json). Ctrl-C stops it; runs go on with the next start.")
    if not is_public:
        say("It listens to this machine only. `thresher keys create NAME` makes a key, which any other address needs.")
