"""A form with a document, read while it arrives: to the disk piece by piece, never as a whole in memory.

Its size and its kind are looked at on the way, so that what cannot be used is refused before all of it was sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from thresher.core.errors import BadInput, TooLarge, UnsupportedDocument
from thresher.operations.request_bodies import take_more
from thresher.operations.sources import check_kind
from thresher.persistence.source_files import Incoming, SourceFiles
from thresher.workflows.discovery.subtrees import Limits

PIECE = 1024 * 1024  # bytes that are written at once
MOST_FIELDS = 100
_OVERHEAD = 64 * 1024  # bytes of boundaries and heads
_LONGEST_NAME = 255


@dataclass
class Part:
    """A document of a form. ``error``: what is wrong with it, where that does not concern the others."""

    name: str
    incoming: Incoming | None = None  # from its first bytes on
    is_looked_at: bool = False
    error: BadInput | None = None

    @property
    def document(self) -> Incoming:
        """The document as it arrived."""
        if self.incoming is None:
            raise BadInput(f"{self.name} is empty.")
        return self.incoming


@dataclass
class Upload:
    """What a form held: its fields, and its documents with the names that they were given."""

    parts: list[Part] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)

    @property
    def document(self) -> Incoming:
        """The one document."""
        return self.parts[0].document

    @property
    def name(self) -> str:
        """The name of the one document."""
        return self.parts[0].name


@dataclass(frozen=True, slots=True)
class Intake:
    """What is taken: so many bytes of all documents together, so many documents, each within ``limits``."""

    files: SourceFiles
    max_bytes: int
    limits: Limits
    most: int = 1


@dataclass(frozen=True, slots=True)
class _Most:
    """Bytes that a form may hold: its document, and its fields together."""

    document: int
    fields: int


@asynccontextmanager
async def received(request: Request, intake: Intake, *, instead: str | None = None) -> AsyncIterator[Upload]:
    """The form of a request, its documents on the disk; what is not kept while inside is gone afterwards.

    ``instead``: a field that may stand in the place of documents.

    Where several are taken, one that is no XML has its ``error``; the others are there.

    Its fields together are bounded as other bodies are (``MAX_BODY_BYTES``).

    Raises:
        UnsupportedDocument: it is no form, or its one document is no XML.
        TooLarge: it is larger than ``max_bytes``, or there are too many documents.
        BadInput: it has no document, or the one document is empty or obviously none.
    """
    boundary = _boundary(request)
    most = _Most(intake.max_bytes, take_more(request.scope))
    _check_announced(request, most)
    upload = Upload()
    try:
        form = _Form(boundary, upload, intake, most)
        await _read(request, form)
        if not upload.parts and (instead is None or instead not in upload.fields):
            raise BadInput("The form has no file: send the document as the part `file`, with a file name.")
        yield upload
    finally:
        await run_in_threadpool(_clear, upload)


def _clear(upload: Upload) -> None:
    for part in upload.parts:
        if part.incoming is not None:
            part.incoming.__exit__()


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedDocument("The document is expected as the part `file` of a form (multipart/form-data).")
    return boundary


def _check_announced(request: Request, most: _Most) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most.document + most.fields + _OVERHEAD:
        raise _too_large(most.document)


async def _read(request: Request, form: _Form) -> None:
    try:
        async for chunk in request.stream():
            form.feed(chunk)
            if form.is_full:
                await run_in_threadpool(form.write)
        form.finish()
    except FormParserError as error:
        raise BadInput("The form cannot be read: it is broken or ends too early.") from error
    await run_in_threadpool(form.write)


class _Form:
    """Takes a form apart; pieces of the document wait until ``write`` puts them on the disk."""

    def __init__(self, boundary: bytes, upload: Upload, intake: Intake, most: _Most) -> None:
        self.upload = upload
        self._intake = intake
        self._most = most
        self._pieces: deque[tuple[Part, bytes | None]] = deque()  # None: all of the document was there
        self._waiting = self._size = self._field_bytes = 0
        self._header = self._value = b""
        self._disposition = b""
        self._field: str | None = None  # the one that is being read, None where it is the file
        self._text = b""
        self._has_ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    @property
    def is_full(self) -> bool:
        """Whether enough waits to be written."""
        return self._waiting >= PIECE

    def feed(self, chunk: bytes) -> None:
        """Takes what has arrived."""
        self._parser.write(chunk)

    def finish(self) -> None:
        """Refuses a form that was cut off."""
        self._parser.finalize()
        if not self._has_ended:
            raise FormParserError("the form ends too early")

    def write(self) -> None:
        """Puts on the disk what waits, and looks at each document at its beginning and its end. Slow.

        Raises:
            BadInput: the one document that is taken is none.
        """
        while self._pieces:
            part, piece = self._pieces.popleft()
            if part.incoming is None:
                part.incoming = self._intake.files.receive()
            if piece is None:
                part.incoming.close()
                self._look_at(part)
            else:
                part.incoming.write(piece)
        self._waiting = 0
        if self.upload.parts and (last := self.upload.parts[-1]).incoming is not None and not last.is_looked_at:
            self._look_at(last)

    def _look_at(self, part: Part) -> None:
        part.is_looked_at = True
        try:
            check_kind(part.document, part.name, self._intake.limits)
        except BadInput as error:
            if self._intake.most == 1:
                raise
            part.error = error

    def _on_part_begin(self) -> None:
        self._disposition = self._text = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            self._field = name
            return
        if name != "file":
            raise BadInput(f"The form has a file as {name!r}: send the document as `file`.")
        if len(self.upload.parts) == self._intake.most:
            more = "one document" if self._intake.most == 1 else f"{self._intake.most:,} at most"
            raise BadInput(f"The form has more files than that: send {more}.")
        self._field = None
        self.upload.parts.append(Part(_plain_name(options[b"filename"].decode("utf-8", "replace"))))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._field is not None:
            self._field_bytes += len(piece)
            if self._field_bytes > self._most.fields:
                raise TooLarge(f"The fields of the form are larger than {self._most.fields:,} bytes.")
            self._text += piece
            return
        self._size += len(piece)
        if self._size > self._most.document:
            raise _too_large(self._most.document)
        self._pieces.append((self.upload.parts[-1], piece))
        self._waiting += len(piece)

    def _on_part_end(self) -> None:
        if self._field is None:
            self._pieces.append((self.upload.parts[-1], None))
            return
        values = self.upload.fields.setdefault(self._field, [])
        values.append(self._text.decode("utf-8", "replace"))
        if sum(map(len, self.upload.fields.values())) > MOST_FIELDS:
            raise TooLarge(f"The form has more than {MOST_FIELDS} fields.")

    def _on_end(self) -> None:
        self._has_ended = True


def _plain_name(given: str) -> str:
    """A file's name without folders, whatever system wrote it; never empty."""
    name = PureWindowsPath(PurePosixPath(given).name).name.strip()
    return "".join(max(character, " ") for character in name)[:_LONGEST_NAME] or "document.xml"


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"This is larger than {max_bytes:,} bytes, the most that is taken here at once.")
