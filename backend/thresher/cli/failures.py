"""What a person sees when something goes wrong: one sentence and an exit code, no traceback."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum

import typer
from typer.exceptions import TyperException

from thresher.core import errors
from thresher.core.errors import BadInput, BudgetExhausted, ThresherError


class ExitCode(IntEnum):
    """What the process says about its work."""

    SUCCEEDED = 0
    FAILED = 1
    BAD_INPUT = 2
    PARTIAL = 3
    INTERRUPTED = 130


def exit_code_of(error_class: str) -> ExitCode:
    """The exit code for an error that ended a run, by the name of its class."""
    if error_class == BudgetExhausted.__name__:
        return ExitCode.PARTIAL  # the run is paused
    found = getattr(errors, error_class, None)
    is_bad_input = isinstance(found, type) and issubclass(found, BadInput)
    return ExitCode.BAD_INPUT if is_bad_input else ExitCode.FAILED


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # what breaks a line, or orders the terminal about


def harmless(text: str) -> str:
    """Text from outside as a terminal may have it: one line, its control characters as escapes."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def say(message: str) -> None:
    """One line on stderr; control characters (in a file's name, in a server's words) are shown as escapes."""
    sys.stderr.write(harmless(message.rstrip()) + "\n")
    sys.stderr.flush()


def say_failure(error: ThresherError) -> None:
    """What was wrong, and the command that helps, where there is one."""
    say(" ".join(("Error:", str(error), *([error.hint] if error.hint else []))))


def explain_usage(error: TyperException) -> None:
    """One sentence for what was typed wrongly: an unknown command or option, a value that an option does not take."""
    sentence = " ".join(error.format_message().replace("Value error, ", "").split())
    context = getattr(error, "ctx", None)
    if sentence:  # else the help has been printed instead
        hint = f" `{context.command_path} --help` says what it takes." if context is not None else ""
        say(f"Error: {sentence.rstrip('.')}.{hint}")


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turns errors that were raised on purpose into a sentence on stderr and an exit code."""
    try:
        yield
    except ThresherError as error:
        say_failure(error)
        raise typer.Exit(exit_code_of(type(error).__name__)) from error
    except KeyboardInterrupt as error:
        say("Interrupted.")
        raise typer.Exit(ExitCode.INTERRUPTED) from error
    except BrokenPipeError as error:
        # The reader of our output has gone (``thresher facts ... | head``): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.SUCCEEDED) from error
    except OSError as error:
        what = error.filename or "The output"
        say(f"Error: {what} cannot be read or written: {error.strerror or error}.{_hint(error)}")
        raise typer.Exit(ExitCode.FAILED) from error


def leave_workers_behind(code: int) -> None:
    """Ends the process where threads are still waiting for answers: Python itself would wait for them.

    That is what a second Ctrl-C asks for. What is stored is whole, and what is in flight is open in the database.
    """
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)


def _hint(error: OSError) -> str:
    return " Make room, or choose another disk." if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
