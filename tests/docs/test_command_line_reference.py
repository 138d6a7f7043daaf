"""The reference of the command line names every command and option, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from pages import ROOT, code, headings, rows, section, text_of

from thresher.cli.app import FactFormat, ModeName, PriorityName, ProviderName, app
from thresher.cli.failures import ExitCode
from thresher.core.config import ProcessingMode, Provider
from thresher.engine.work import Priority

CLI = "docs/reference/cli.md"
HELP = {"--help", "-h"}


def commands(command: Any, name: str = "thresher") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, child in command.commands.items():
        yield from commands(child, f"{name} {word}")


def options(command: Any) -> set[str]:
    found = (parameter for parameter in command.params if parameter.param_type_name == "option")
    return {text for parameter in found for text in (*parameter.opts, *parameter.secondary_opts)} - HELP


ROOT_COMMAND = typer.main.get_command(app)
COMMANDS = dict(commands(ROOT_COMMAND))


def test_the_sections_are_the_commands() -> None:
    assert [name for name in headings(CLI) if name.startswith("thresher")] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_has_every_option_of_its_command_and_no_other(name: str) -> None:
    documented = [option for cells in rows(section(CLI, name)) for option in code(cells[0])]
    assert sorted(documented) == sorted(options(COMMANDS[name]))


def test_the_head_has_the_options_of_thresher_itself() -> None:
    head = text_of(CLI).partition("\n## ")[0]
    documented = {option for cells in rows(head) for option in code(cells[0])} - HELP
    assert documented == options(ROOT_COMMAND)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert not [parameter.name for parameter in command.params if not parameter.help]


def test_defaults_and_choices_are_the_program_s() -> None:
    for name, command in COMMANDS.items():
        text = section(CLI, name)
        for parameter in command.params:
            default = parameter.default
            if isinstance(default, str | int) and not isinstance(default, bool):
                (row,) = (cells for cells in rows(text) if parameter.opts[0] in code(cells[0]))
                shown = getattr(default, "value", default)
                assert re.search(rf"(`{shown}` \(default\)|Default: `?{shown}`?[;. ])", row[-1]), (name, row)
    assert {provider.value for provider in ProviderName} == {provider.value for provider in Provider}
    assert {mode.value for mode in ModeName} == {mode.value for mode in ProcessingMode}
    assert [name.value for name in PriorityName] == [priority.label for priority in Priority]
    for choice in (*ProviderName, *ModeName, *FactFormat, *PriorityName):
        assert f"`{choice.value}`" in text_of(CLI)


@pytest.mark.parametrize("page", [CLI, "README.md"])
def test_the_exit_codes_are_the_program_s(page: str) -> None:
    table = re.findall(r"^\| (\d+) \|", text_of(page), re.MULTILINE)
    assert [int(number) for number in table] == [code.value for code in ExitCode]


def test_the_targets_that_pages_name_can_be_made() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "docs/quickstart.md", "docs/howto/local-model.md"):
        named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text_of(page), re.MULTILINE))
        assert named <= targets, page
