"""What is typed wrongly or set wrongly, said in one sentence, with exit code 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from thresher.cli.app import run
from thresher.core.config import Settings

Refused = Callable[..., str]
OF_A_RUN = ("pause", "cancel", "watch", "dead", "retry", "resume", "show", "facts")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Refused]:
    """Runs a command in a folder of its own that holds good.xml; returns the one sentence."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    Path("good.xml").write_text("<r><i><a>1</a></i><i><a>2</a></i></r>", encoding="utf-8")

    def command(*arguments: str, parts: tuple[str, ...]) -> str:
        monkeypatch.setattr("sys.argv", ["thresher", *arguments])
        code = run()
        said = capsys.readouterr()
        assert (code, said.out) == (2, ""), said.err
        (line,) = said.err.splitlines()
        assert line.startswith("Error: ")
        assert not [part for part in parts if part not in line], line
        return line

    yield command
    structlog.reset_defaults()  # it wrote to a stream that ends with this test


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("discover", "good.xml", "--path", "a//["), ("'a//['", "character 4")),
        (("discover", "good.xml", "--path", ""), ("path is empty",)),
        (("discover", "good.xml", "--workers", "0"), ("--workers", "1")),
        (("discover", "good.xml", "--workers", "-1"), ("--workers", "1")),
        (("discover", "good.xml", "--workers", "abc"), ("--workers", "integer")),
        (("discover", "good.xml", "--provider", "oracle"), ("--provider", "'oracle'", "structural")),
        (("discover", "good.xml", "--wrokers", "3"), ("--wrokers", "--workers")),
        (("discover",), ("FILE", "thresher discover --help")),
        (("discvoer", "good.xml"), ("discvoer",)),
        (("discover", "good.xml", "--config", "no.yaml"), ("no.yaml", "No such file")),
        *((((command, "r0nothing"), ("No run is named 'r0nothing'", "thresher runs"))) for command in OF_A_RUN),
        (("discover", "good.xml", "--priority", "soon"), ("--priority", "immediate", "normal", "low")),
        (("pause", "r1", "--timeout", "0"), ("--timeout", "0.1")),
        (("evaluate", "r1"), ("--gold", "thresher evaluate --help")),
        (("evaluate", "r1", "--gold", "no.jsonl"), ("no.jsonl", "No such file")),
        (("evaluate", "r1", "--gold", "."), ("gold file .", "directory")),
        (("evaluate", "r1", "--gold", "good.xml"), ("good.xml", "columns section_path, name, value")),
        (("diff", "r1"), ("RUN", "thresher diff --help")),
        (("diff", "r1", "r2"), ("No run is named 'r1'",)),
        (("sample", "--size", "10QB"), ("10QB", "200KB")),
        (("sample", "--output", "no/such/s.xml"), ("no/such/s.xml", "does not exist")),
        (("sample", "--output", "."), ("is a folder", "--output")),
    ],
)
def test_what_is_typed_wrongly_is_said_in_one_sentence(
    refused: Refused, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    refused(*arguments, parts=parts)


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({"MAX_PARALLEL_NODES": "0"}, ("MAX_PARALLEL_NODES", "1")),
        ({"MAX_PARALLEL_NODES": "-1"}, ("MAX_PARALLEL_NODES", "1")),
        ({"MAX_PARALLEL_NODES": "abc", "MAX_RETRIES": "x"}, ("MAX_PARALLEL_NODES", "MAX_RETRIES", "integer")),
        ({"LLM_PROVIDER": "oracle"}, ("LLM_PROVIDER", "structural")),
        ({"LLM_PROVIDER": "openai"}, ("OPENAI_API_KEY", "OPENAI_BASE_URL")),
        ({"LLM_MODEL": "gpt-4o"}, ("OPENAI_API_KEY",)),
        ({"LLM_PROVIDER": "azure"}, ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_DEPLOYMENT")),
        ({"AZURE_OPENAI_API_KEY": "k"}, ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_DEPLOYMENT")),
        ({"OPENAI_BASE_URL": "ftp://x", "OPENAI_API_KEY": "k"}, ("OPENAI_BASE_URL", "http")),
        ({"OPENAI_API_KEY": "k", "PRICES_FILE": "no.toml"}, ("no.toml", "No such file", "PRICES_FILE")),
        ({"OPENAI_API_KEY": "k", "PRICES_FILE": "good.xml"}, ("good.xml", "TOML")),
        ({"DATABASE_URL": "nonsense"}, ("sqlite:///", "postgresql://")),
        ({"DATABASE_URL": "mysql://u:secretpw@h/d"}, ("mysql", "not supported")),
        ({"DATABASE_URL": "sqlite:////no/such/folder/x.db"}, ("/no/such/folder", "does not exist")),
        ({"DATABASE_URL": "sqlite:///good.xml"}, ("good.xml", "no database")),
        ({"DATABASE_URL": "postgresql://u:secretpw@127.0.0.1:9/d"}, ("127.0.0.1:9", "DATABASE_URL")),
    ],
)
def test_an_unusable_setting_is_named_and_no_secret_is_shown(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], parts: tuple[str, ...]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert "secretpw" not in refused("discover", "good.xml", parts=parts)


def test_the_version_needs_no_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["thresher", "--version"])
    assert run() == 0
    assert capsys.readouterr().out.startswith("thresher ")
