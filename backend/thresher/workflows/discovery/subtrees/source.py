"""The source gate: a file is looked at before it is read."""

from __future__ import annotations

import hashlib
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from thresher.core.errors import BadInput, MalformedDocument, UnsafeDocument, UnsupportedDocument
from thresher.workflows.discovery.subtrees.encoding import Encoding, sniff_encoding, to_utf8
from thresher.workflows.discovery.subtrees.limits import Limits

CHUNK_BYTES = 128 * 1024
_HEAD_BYTES = 4_096
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's wbits for a gzip header and trailer
# What is no XML but is given as such now and then; each is answered with what to do.
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive (an office document or a packed folder): unpack it and give the XML inside"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"BZh", "packed with bzip2: unpack it with bunzip2, or pack it with gzip"),
    (b"\xfd7zXZ\x00", "packed with xz: unpack it with unxz, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it with unzstd, or pack it with gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it and give the XML inside"),
    (b"%PDF-", "a PDF, not XML"),
    (b"\x7fELF", "a program, not XML"),
    (b"SQLite format 3\x00", "a database, not XML"),
    (b"\xd0\xcf\x11\xe0", "an old office document, not XML"),
)


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """An XML file that can be read: present, readable, regular, not empty, gzip or plain.

    ``size_bytes`` is the size of the file as it lies on the disk. Each call of ``chunks`` is one pass of its own.
    ``given_name``: what people call it, where its file is named otherwise.
    """

    path: Path
    size_bytes: int
    is_gzip: bool
    encoding: Encoding
    limits: Limits
    given_name: str | None = None

    @classmethod
    def open(cls, path: Path, limits: Limits | None = None, name: str | None = None) -> SourceDocument:
        """Looks at a file without reading more than its head.

        Raises:
            BadInput: it is missing, unreadable, no regular file, empty, or an archive of another kind.
            UnsafeDocument: it is larger than the limits allow.
        """
        limits, called = limits or Limits(), name or path.name
        size = _size_of_file(path, called)
        with _opened(path) as stream:
            is_gzip = stream.read(2) == _GZIP
            stream.seek(0)
            head = _head(_inflated(stream, called, limits) if is_gzip else _plain(stream))
        _refuse_foreign(head, called)
        if not is_gzip and size > limits.max_document_bytes:
            raise _too_large(called, limits)
        return cls(path, size, is_gzip, sniff_encoding(head, called), limits, name)

    @property
    def name(self) -> str:
        """What people call it: the file's name without its folder, unless it was given another one."""
        return self.given_name or self.path.name

    def chunks(self) -> Iterator[bytes]:
        """Streams the document's bytes in its own encoding, inflated.

        Raises:
            UnsafeDocument: it inflates beyond the bounds, or is too large.
            BadInput: it can no longer be read.
        """
        with _opened(self.path) as stream:
            pieces = _inflated(stream, self.name, self.limits) if self.is_gzip else _plain(stream)
            total = 0
            for piece in pieces:
                total += len(piece)
                if total > self.limits.max_document_bytes:
                    raise _too_large(self.name, self.limits)
                yield piece

    def slice(self, start: int, end: int) -> bytes:
        """The document's bytes from ``start`` to ``end``, in its own encoding, inflated.

        Raises:
            UnsafeDocument, BadInput: see ``chunks``.
        """
        if not self.is_gzip:
            with _opened(self.path) as stream:
                stream.seek(start)
                return stream.read(end - start)
        found, place = [], 0
        for chunk in self.chunks():
            found.append(chunk[max(start - place, 0) : max(end - place, 0)])
            place += len(chunk)
            if place >= end:
                break
        return b"".join(found)

    def utf8_chunks(self) -> Iterator[bytes]:
        """Streams the document in UTF-8 without byte order mark; ends with an empty chunk.

        Raises:
            MalformedDocument: bytes that its encoding does not know, and all that ``chunks`` raises.
        """
        return to_utf8(self.chunks(), self.encoding, self.name)

    def sha256(self) -> str:
        """The SHA-256 of the file as it lies on the disk, in hexadecimal digits."""
        with _opened(self.path) as stream:
            digest = hashlib.sha256()
            for chunk in _plain(stream):
                digest.update(chunk)
            return digest.hexdigest()


def _size_of_file(path: Path, name: str) -> int:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist. Give the path of an XML file.") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be looked at: {error}.") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise BadInput(f"{path} is {kind}. Give the path of one XML file.")
    if found.st_size == 0:
        raise MalformedDocument(f"{name} is empty. Give a file that holds an XML document.")
    return found.st_size


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from error


def _plain(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _inflated(stream: BinaryIO, name: str, limits: Limits) -> Iterator[bytes]:
    """Inflates one or more gzip members, never more than ``CHUNK_BYTES`` at a time."""
    packed, inflated = 0, 0
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    pending = b""
    while pending or (pending := stream.read(CHUNK_BYTES)):
        piece = _inflate(inflater, pending, name)
        rest = inflater.unconsumed_tail or inflater.unused_data
        packed, inflated = packed + len(pending) - len(rest), inflated + len(piece)
        if inflated > max(limits.inflation_grace_bytes, packed * limits.max_inflation_ratio):
            raise _inflates_too_far(name, limits)
        if inflater.eof:
            rest = rest.lstrip(b"\0")  # gzip pads blocks with zeros
            inflater = zlib.decompressobj(_GZIP_WINDOW)
            if not rest and not (rest := stream.read(CHUNK_BYTES).lstrip(b"\0")):
                yield piece
                return
        pending = rest
        yield piece
    while piece := _inflate(inflater, b"", name):
        yield piece
    raise MalformedDocument(f"{name} is cut off: its gzip data ends too early. Fetch or pack it again.")


def _inflate(inflater: zlib._Decompress, packed: bytes, name: str) -> bytes:
    try:
        return inflater.decompress(packed, CHUNK_BYTES)
    except zlib.error as error:
        raise MalformedDocument(f"{name} is damaged gzip data ({error}). Fetch or pack it again.") from error


def _head(chunks: Iterator[bytes]) -> bytes:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    return head[:_HEAD_BYTES]


def _refuse_foreign(head: bytes, name: str) -> None:
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise UnsupportedDocument(f"{name} is {what}.")
    if head.startswith(_GZIP):
        raise UnsafeDocument(f"{name} is gzip within gzip. Unpack it once and give the result.")
    if head[257:262] == b"ustar":
        raise UnsupportedDocument(f"{name} is a tar archive: unpack it and give the XML inside.")
    if not head.strip():
        raise MalformedDocument(f"{name} holds nothing but blanks. Give a file that holds an XML document.")


def _too_large(name: str, limits: Limits) -> UnsafeDocument:
    return UnsafeDocument(
        f"{name} is larger than {limits.max_document_bytes:,} bytes. Raise MAX_DOCUMENT_BYTES if you trust it."
    )


def _inflates_too_far(name: str, limits: Limits) -> UnsafeDocument:
    return UnsafeDocument(
        f"{name} inflates to more than {limits.max_inflation_ratio:g} times its packed size, as a decompression bomb "
        "does. Unpack it yourself if you trust it."
    )
