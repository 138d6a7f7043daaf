"""Disks that are full: small ones of a test's own, and limits of a process."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

_BLOCK = b"x" * 4096


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A disk of so many bytes."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user may mount no disk of its own")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Room(Protocol):
    """Where a database stands, and how its room is taken from a process."""

    folder: Path

    def take(self, process: subprocess.Popen[str]) -> None:
        """From now on the process can write nothing more."""

    def give_back(self) -> None:
        """There is room again, for processes that start."""


class RoomOnDisk:
    """All that a small disk has left is taken by a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def take(self, process: subprocess.Popen[str]) -> None:  # noqa: ARG002
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(_BLOCK)

    def give_back(self) -> None:
        self._filler.unlink()


class RoomOfProcess:
    """A process may no longer make any file larger than a few bytes; those that start may."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, process: subprocess.Popen[str]) -> None:
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (len(_BLOCK), most))

    def give_back(self) -> None:
        pass
