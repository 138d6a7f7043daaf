"""The documents that are kept: each stored once, under the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from thresher.core.errors import BadConfiguration, NotFound, StorageFailed

_INCOMING = "incoming"
_ABANDONED_AFTER = 24 * 3600.0  # seconds after which a half of an upload is nobody's any more


class SourceFiles:
    """A folder of documents, shared by all servers on one database. Safe to use from any thread and process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def make_ready(self) -> None:
        """Makes the folder, and clears away what uploads have left that were cut off by the end of a server.

        Raises:
            BadConfiguration: the folder cannot be made or written.
        """
        incoming = self._folder / _INCOMING
        try:
            incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadConfiguration(f"DATA_DIR: {self._folder} cannot be made: {error.strerror}.") from error
        if not os.access(incoming, os.W_OK):
            raise BadConfiguration(f"DATA_DIR: {incoming} cannot be written: change its rights, or name another.")
        for half in incoming.iterdir():
            with suppress(OSError):
                if time.time() - half.stat().st_mtime > _ABANDONED_AFTER:
                    half.unlink()

    def receive(self) -> Incoming:
        """A new document that is about to be written, piece by piece.

        Raises:
            StorageFailed: the folder cannot be written.
        """
        with _storing():
            return Incoming(self._folder / _INCOMING / secrets.token_hex(16))

    def keep(self, incoming: Incoming) -> None:
        """Gives a written document its place. It takes the place of an equal one, which may be going away just now.

        Raises:
            StorageFailed: the folder cannot be written.
        """
        incoming.close()
        place = self._place(incoming.sha256)
        with _storing():
            place.parent.mkdir(exist_ok=True, mode=0o700)
            incoming.path.replace(place)

    def find(self, sha256: str, name: str) -> Path:
        """Where a document lies.

        Raises:
            NotFound: it is not kept, or no longer.
        """
        place = self._place(sha256)
        if not place.is_file():
            raise NotFound(f"The document {name} is no longer kept (SOURCE_RETENTION_DAYS): upload it again.")
        return place

    def take_away(self, sha256: str) -> Removal:
        """Takes a document out of its place, so that nobody begins to read it; see ``Removal``."""
        place = self._place(sha256)
        aside = self._folder / _INCOMING / secrets.token_hex(16)
        with suppress(FileNotFoundError):
            place.replace(aside)
        return Removal(place, aside)

    def _place(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


class Incoming:
    """A document while it is written. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0  # bytes
        self._digest = hashlib.sha256()
        self._stream = path.open("xb", buffering=0)

    def write(self, piece: bytes) -> None:
        """Appends to it.

        Raises:
            StorageFailed: the disk is full.
        """
        with _storing():
            written = 0
            while written < len(piece):  # the last bytes before the end of the disk are taken without a word
                written += self._stream.write(memoryview(piece)[written:])
        self._digest.update(piece)
        self.size += len(piece)

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written so far, in hexadecimal digits."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Ends the writing; readers see all of it."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What was not kept is gone."""
        self._stream.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"The document cannot be stored: {error.strerror}. Make room, or see DATA_DIR.") from error


class Removal:
    """A document that is out of its place: to be deleted, or put back where somebody needs it after all."""

    def __init__(self, place: Path, aside: Path) -> None:
        self._place = place
        self._aside = aside

    def delete(self) -> None:
        """Deletes it."""
        self._aside.unlink(missing_ok=True)

    def undo(self) -> None:
        """Puts it back, unless there is one again."""
        with suppress(FileExistsError, FileNotFoundError):
            os.link(self._aside, self._place)
        self.delete()
