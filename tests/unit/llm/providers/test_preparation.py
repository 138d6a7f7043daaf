"""What the SDK prepares in a process of its own is what it prepares here."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from thresher.core.errors import BadConfiguration
from thresher.llm.providers import openai as provider
from thresher.llm.providers import preparation
from thresher.llm.providers.preparation import AzureServer, OpenAIServer, prepare_apart, prepare_here

KEY = "sk-a-secret-key"


@pytest.mark.parametrize(
    "server",
    [
        OpenAIServer(KEY),
        OpenAIServer(None, "http://user:secret@localhost:8000/v1"),
        AzureServer("https://résumé.example.com", f"{KEY}\n", "my deployment", "2024-10-21"),
    ],
)
def test_a_process_of_its_own_prepares_the_same_as_this_one(
    server: OpenAIServer | AzureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    assert prepare_apart(server) == prepare_here(server)


def test_a_process_of_its_own_refuses_as_this_one() -> None:
    with pytest.raises(BadConfiguration, match="OPENAI_BASE_URL must start with http"):
        prepare_apart(OpenAIServer(KEY, "ftp://host/v1"))


def test_the_key_is_no_argument_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Any, Any]] = []

    def run(*arguments: Any, **named: Any) -> None:
        started.append((arguments, named))
        raise OSError

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(OSError):  # noqa: PT011 # as raised above
        prepare_apart(OpenAIServer(KEY))
    ((arguments, named),) = started
    assert KEY not in str(arguments)
    assert "env" not in named
    assert KEY in named["input"]


@pytest.mark.parametrize("interpreter", ["", "/no/such/interpreter", "/bin/true", "/bin/false"])
def test_where_there_can_be_no_such_process_this_one_does_it(interpreter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prepare_here(OpenAIServer(KEY))
    monkeypatch.setattr(preparation.sys, "executable", interpreter)
    monkeypatch.delitem(sys.modules, "openai")  # as if it were not loaded
    client = provider.OpenAIClient("m", OpenAIServer(KEY))
    assert client._completions == expected.completions
    client.close()


def test_a_client_leaves_the_sdk_out_of_its_process() -> None:
    script = (
        "import sys; from thresher.llm.providers.openai import OpenAIClient;"
        "from thresher.llm.providers.preparation import OpenAIServer;"
        "OpenAIClient('m', OpenAIServer('key')).close(); assert 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
