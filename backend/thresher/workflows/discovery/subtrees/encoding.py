"""The encoding of a document: from its first bytes, its byte order mark, its XML declaration."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from thresher.core.errors import MalformedDocument

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# How "<?" or "<" begin without a byte order mark (XML 1.0, appendix F).
_PATTERNS = (
    (b"\x3c\x00\x00\x00", "utf-32-le"),
    (b"\x00\x00\x00\x3c", "utf-32-be"),
    (b"\x3c\x00", "utf-16-le"),
    (b"\x00\x3c", "utf-16-be"),
    (b"\x4c\x6f\xa7\x94", "cp037"),
)
_DECLARATION = re.compile(rb"""<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._:\-]*)["']""")
# Text codecs of Python that are no character encodings of documents.
_NOT_FOR_DOCUMENTS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"})
_PROBES = (bytes(range(256)), b"\x1b$B0!\x1b(B", b"~{VPND~}")
_STATELESS_WIDE = frozenset({"utf-16-le", "utf-16-be"})


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of a document become characters.

    ``codec`` is Python's name, ``mark`` the length of the byte order mark in bytes. ``declared`` is the name the
    document gives itself, empty where it gives none.
    """

    codec: str
    mark: int = 0
    declared: str = ""

    @property
    def is_utf8(self) -> bool:
        """Whether the document can be read as it is."""
        return self.codec == "utf-8"

    @property
    def has_stable_offsets(self) -> bool:
        """Whether the length of a text tells the length of its bytes."""
        return self.is_utf8 or self.codec in _STATELESS_WIDE or _is_single_byte(self.codec)

    def width(self, utf8: bytes) -> int:
        """The length in bytes, in this encoding, of a text given in UTF-8; only where offsets are stable."""
        if self.is_utf8:
            return len(utf8)
        text = utf8.decode("utf-8")
        return len(text.encode(self.codec)) if self.codec in _STATELESS_WIDE else len(text)


def sniff_encoding(head: bytes, name: str) -> Encoding:
    """Reads the encoding off the first bytes of a document, as appendix F of XML 1.0 says.

    Raises:
        MalformedDocument: it declares an encoding that is not known.
    """
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return Encoding(codec, len(mark), _declared(head[len(mark) :], codec))
    for pattern, codec in _PATTERNS:
        if head.startswith(pattern):
            declared = _declared(head, codec)
            return Encoding(_known(declared, name) if codec == "cp037" and declared else codec, 0, declared)
    declared = _declared(head, "latin-1")
    codec = _known(declared, name) if declared else "utf-8"
    # Declared wide, yet read so far byte by byte: a text that was saved anew; libxml2 takes it as UTF-8 too.
    return Encoding("utf-8" if codec.startswith(("utf-16", "utf-32")) else codec, 0, declared)


def to_utf8(chunks: Iterable[bytes], encoding: Encoding, name: str) -> Iterator[bytes]:
    """Turns a document's bytes into UTF-8 without byte order mark, whatever their encoding.

    Raises:
        MalformedDocument: the bytes are not of that encoding.
    """
    decoder = None if encoding.is_utf8 else codecs.getincrementaldecoder(encoding.codec)()
    skip = encoding.mark
    for chunk in _and_an_end(chunks):
        rest, skip = chunk[skip:], max(0, skip - len(chunk))
        yield rest if decoder is None else _decode(decoder, rest, encoding, name, final=not chunk)


def _and_an_end(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from (chunk for chunk in chunks if chunk)
    yield b""


def _decode(decoder: codecs.IncrementalDecoder, data: bytes, encoding: Encoding, name: str, *, final: bool) -> bytes:
    try:
        return decoder.decode(data, final).encode("utf-8")
    except UnicodeError as error:
        raise MalformedDocument(
            f"{name} is not valid {encoding.declared or encoding.codec}: {error}. Save it in the encoding it declares."
        ) from error


def _declared(head: bytes, codec: str) -> str:
    found = _DECLARATION.match(head.decode(codec, "ignore").encode("ascii", "replace"))
    return found.group(1).decode("ascii") if found else ""


def _known(declared: str, name: str) -> str:
    try:
        info = codecs.lookup(declared)
    except LookupError:
        info = None
    if info is None or info.name.replace("_", "-") in _NOT_FOR_DOCUMENTS or not _is_text(info):
        raise MalformedDocument(
            f"{name} declares the encoding {declared!r}, which is not known. Save it as UTF-8.", line=1, column=1
        )
    return info.name


def _is_text(info: codecs.CodecInfo) -> bool:
    return getattr(info, "_is_text_encoding", True)


def _is_single_byte(codec: str) -> bool:
    """Whether each byte is one character, always: shift sequences of stateful encodings must not shrink."""
    try:
        return all(len(probe.decode(codec, "replace")) == len(probe) for probe in _PROBES) and codec[:3] != "utf"
    except (LookupError, UnicodeError):
        return False
