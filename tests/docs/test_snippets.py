"""What pages show is run as it stands, by the real command line, and prints what they say; offline."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Block, blocks, name_of

from thresher.core.config import Settings
from thresher.testing.model_server import running_model_server
from thresher.workflows.discovery import load_configurations

REASONS = {
    "sets up the project",
    "starts a server",
    "needs an account",
    "needs a PostgreSQL server",
    "it waits for a person",
    "it watches a run from outside",
    "it is read by other programs",
}
SHELL_PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/howto/debug-sequentially.md",
    "docs/howto/compatible-servers.md",
    "docs/howto/evaluate.md",
    "docs/howto/control-costs.md",
)
SERVER = "http://127.0.0.1:8089/v1"  # where pages say that the model server is
RUN_ID = re.compile(r"\br[0-9a-z]{12}\b")


class Reader:
    """Somebody who types what a page says, in a folder with the bundled samples."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self.base_url = base_url
        self.newest_run = ""
        self.is_named = True  # has an id on the page been met that stands for the newest run?
        self.runs: dict[str, str] = {}  # by the ids on the page
        (folder / "samples").symlink_to(ROOT / "samples")
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "activate").write_text("", encoding="utf-8")  # the tests' own is active
        kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, "PATH": path, "COLUMNS": "100", "PYTHONUTF8": "1"}

    def read(self, block: Block) -> None:
        if block.language == "yaml":
            (self.folder / "nodes.yaml").write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            for line in block.text.splitlines():
                self.type(line)
        elif block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")
                assert_shown(expected.splitlines(), self.type(command).splitlines())

    def type(self, command: str) -> str:
        """Runs a command; the first id after a run stands for it, as it does for a reader, until it names another."""
        command = command.replace(SERVER, self.base_url)
        command = RUN_ID.sub(lambda found: self._run_named(found[0]), command)
        if command.startswith("export "):
            words = shlex.split(command, comments=True)[1:]
            self.environment |= dict(word.split("=", 1) for word in words)
            return ""
        return self._run(command)

    def _run_named(self, written: str) -> str:
        if not self.is_named:
            self.runs[written] = self.newest_run
            self.is_named = True
        return self.runs[written]

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if "discover" in command and (started := RUN_ID.search(done.stderr + done.stdout)):
            self.newest_run = started[0]
            self.is_named = False
        return done.stdout


def assert_shown(expected: list[str], shown: list[str]) -> None:
    """Every line of the page stands in the output, in this order; … stands for anything, an id for any id."""
    rest = iter(shown)
    for line in filter(None, (text.strip() for text in expected)):
        if line == "…":
            continue
        pattern = re.compile(RUN_ID.sub("r[0-9a-z]{12}", ".*".join(re.escape(part) for part in line.split("…"))))
        assert any(pattern.fullmatch(text.strip()) for text in rest), f"{line!r} is not in\n" + "\n".join(shown)


@pytest.fixture
def server() -> Iterator[str]:
    with running_model_server(latency=0.1, lie=0.05) as running:
        yield running.base_url


@pytest.fixture
def reader(tmp_path: Path, server: str) -> Reader:
    return Reader(tmp_path, server)


@pytest.mark.timeout(600)  # a page is many commands, each a process
@pytest.mark.parametrize("name", SHELL_PAGES)
def test_a_page_works_for_somebody_who_types_what_it_says(reader: Reader, name: str) -> None:
    for block in blocks(ROOT / name):
        if block.not_run is None:
            reader.read(block)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_whatever_is_not_run_says_why(page: Path) -> None:
    assert {block.not_run for block in blocks(page)} - {None} <= REASONS


def python_blocks() -> list[tuple[str, str]]:
    return [(name_of(page), block.text) for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize(("name", "text"), python_blocks(), ids=[name for name, _ in python_blocks()])
def test_python_examples_run(reader: Reader, name: str, text: str) -> None:
    assert name
    (reader.folder / "example.py").write_text(text, encoding="utf-8")
    reader.type(f"{shlex.quote(sys.executable)} example.py")


def yaml_blocks() -> list[tuple[str, str]]:
    found = ((name_of(page), block) for page in PAGES for block in blocks(page) if block.language == "yaml")
    return [(name, block.text) for name, block in found if block.not_run is None]


@pytest.mark.parametrize(("name", "text"), yaml_blocks(), ids=[name for name, _ in yaml_blocks()])
def test_configuration_examples_can_be_loaded(tmp_path: Path, name: str, text: str) -> None:
    assert name
    file = tmp_path / "nodes.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_configurations(file)
