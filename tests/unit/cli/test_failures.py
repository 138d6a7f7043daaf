from __future__ import annotations

import errno

import pytest
import typer

from thresher.cli.failures import ExitCode, exit_code_of, failures_explained, say
from thresher.core.errors import BadInput, MalformedDocument, StorageFailed


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("BadInput", 2), ("MalformedDocument", 2), ("DatabaseUnusable", 2), ("StateConflict", 2), ("StorageFailed", 1),
        ("AuthenticationFailed", 1), ("ModelUnreachable", 1), ("SomethingElse", 1), ("annotations", 1),
    ],
)  # fmt: skip
def test_the_class_of_an_error_is_its_exit_code(name: str, code: int) -> None:
    assert exit_code_of(name) == code


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (BadInput("What to do."), ExitCode.BAD_INPUT, "Error: What to do.\n"),
        (MalformedDocument("x.", line=1, column=2), ExitCode.BAD_INPUT, "Error: x.\n"),
        (StorageFailed("full."), ExitCode.FAILED, "Error: full.\n"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "Interrupted.\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "f.csv"),
            ExitCode.FAILED,
            "Error: f.csv cannot be read or written: No space left on device. Make room, or choose another disk.\n",
        ),
    ],
)
def test_errors_become_a_sentence_and_a_code(
    error: BaseException, code: ExitCode, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, failures_explained():
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr().err == sentence


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), failures_explained():
        raise ZeroDivisionError


def test_a_line_stays_a_line_and_does_not_order_the_terminal_about(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb\x1b[31m\u2028\x85é.xml\n")
    assert capsys.readouterr().err == "a\\nb\\x1b[31m\\u2028\\x85é.xml\n"
