"""What a person sees when something goes wrong: one sentence and an exit code, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from thresher.core import errors
from thresher.core.errors import BadInput, ThresherError


class ExitCode(IntEnum):
    """What the process says about its work."""

    SUCCEEDED = 0
    FAILED = 1
    BAD_INPUT = 2
    PARTIAL = 3
    INTERRUPTED = 130


def exit_code_of(error_class: str) -> ExitCode:
    """The exit code for an error that ended a run, by the name of its class."""
    found = getattr(errors, error_class, None)
    is_bad_input = isinstance(found, type) and issubclass(found, BadInput)
    return ExitCode.BAD_INPUT if is_bad_input else ExitCode.FAILED


def say(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(message.rstrip() + "\n")
    sys.stderr.flush()


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turns errors that were raised on purpose into a sentence on stderr and an exit code."""
    try:
        yield
    except ThresherError as error:
        say(f"Error: {error}")
        raise typer.Exit(exit_code_of(type(error).__name__)) from error
    except KeyboardInterrupt as error:
        say("Interrupted.")
        raise typer.Exit(ExitCode.INTERRUPTED) from error
    except BrokenPipeError as error:
        # The reader of our output has gone (``thresher facts ... | head``): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.SUCCEEDED) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        say(f"Error: {error.strerror or error}{where}.")
        raise typer.Exit(ExitCode.FAILED) from error
