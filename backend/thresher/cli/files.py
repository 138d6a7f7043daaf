"""Files that appear under their name only when they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from thresher.core.errors import BadInput


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A binary file beside ``path`` that takes its name at the end, and is removed if anything goes wrong.

    What cannot be replaced (``/dev/stdout``, a pipe) is written to directly.

    Raises:
        BadInput: there can be no such file (a folder, a missing folder, no permission).
        OSError: it cannot be written to its end (no space); ``filename`` is ``path``.
    """
    _refuse_folder(path)
    is_special = path.exists() and not path.is_file()
    target = path if is_special else path.with_name(f".{path.name}.partial")
    stream = _opened(target, path)
    try:
        with _named(path):
            with stream:
                yield stream
            if not is_special:
                target.replace(path)
    except BaseException:
        if not is_special:
            target.unlink(missing_ok=True)
        raise


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise BadInput(f"{path} is a folder. Give --output the name of a file.")
    if not path.parent.is_dir():
        raise BadInput(f"{path} cannot be written: the folder {path.parent} does not exist. Make it first.")


def _opened(target: Path, path: Path) -> BinaryIO:
    try:
        return target.open("wb")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}. Give --output another place.") from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of writing name the file; a reader that has gone (a pipe) stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
