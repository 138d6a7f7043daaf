"""Well-formed markup cut into tokens, streamed; texts that are too long come in several."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from thresher.workflows.discovery.subtrees.base64_text import (
    MIN_CHARACTERS,
    RunReader,
    find_run,
    stub_attributes,
    stub_of,
)

CDATA = (b"<![CDATA[", b"]]>")
COMMENT = (b"<!--", b"-->")
INSTRUCTION = (b"<?", b"?>")
TAG = re.compile(rb"""<[^>"']*+(?:(?:"[^"]*+"|'[^']*+')[^>"']*+)*+>""")
_NAME = re.compile(rb"</?([^\s/>]+)")
_BLANK = re.compile(rb"\s")


class Kind(Enum):
    """What a token is. ``OTHER``: a comment or a processing instruction."""

    START = auto()
    EMPTY = auto()
    END = auto()
    TEXT = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of markup: ``xml`` as it is to be written, ``width`` the bytes it takes in the source."""

    kind: Kind
    xml: bytes
    width: int

    @property
    def name(self) -> bytes:
        """The name of a tag, as written."""
        found = _NAME.match(self.xml)
        return found[1] if found else b""


class Tokenizer:
    """Cuts markup that a parser has already found well-formed into tokens, in bounded memory.

    A text or comment longer than ``segment_bytes()`` comes as several tokens, cut at white space where there is
    some. Long base64 comes as a stub. ``width`` tells how many bytes of the source a piece of UTF-8 takes.
    """

    def __init__(self, segment_bytes: Callable[[], int], width: Callable[[bytes], int]) -> None:
        self._segment_bytes = segment_bytes
        self._width = width
        self._buffer = b""
        self._at = 0
        self._wanted = 0
        self._run: RunReader | None = None
        self._in_cdata = False
        self._is_opened = False  # the "<![CDATA[" was already counted to an earlier token

    def feed(self, data: bytes) -> Iterator[Token]:
        """Yields the tokens that are complete by now."""
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return
        self._wanted = 0
        before = -1
        while before < self._at < len(self._buffer):
            before = self._at
            yield from self._next()
        self._buffer, self._at = self._buffer[self._at :], 0

    def _next(self) -> Iterator[Token]:
        """The tokens at the present place; none, and the place unmoved, where more must be read first."""
        if self._in_cdata:
            yield from self._text(CDATA[1])
        elif not self._buffer.startswith(b"<", self._at):
            yield from self._text(b"<")
        elif self._buffer.startswith(CDATA[0], self._at):
            self._in_cdata, self._is_opened = True, False
            self._at += len(CDATA[0])
            yield from self._text(CDATA[1])
        elif not CDATA[0].startswith(self._buffer[self._at :]):
            yield from self._markup()

    def _markup(self) -> Iterator[Token]:
        end = self._end_of_markup()
        if end < 0:
            self._wanted = 2 * (len(self._buffer) - self._at)
            return
        written = self._buffer[self._at : end]
        self._at = end
        if written.startswith(COMMENT[0]) and len(written) > self._segment_bytes():
            yield from self._segments(written[4:-3], COMMENT, self._width(COMMENT[0]), self._width(COMMENT[1]))
            return
        kind = _kind_of(written)
        xml = stub_attributes(written) if kind in {Kind.START, Kind.EMPTY} else written
        yield Token(kind, xml, self._width(written))

    def _end_of_markup(self) -> int:
        for opener, closer in (COMMENT, INSTRUCTION):
            if self._buffer.startswith(opener, self._at):
                end = self._buffer.find(closer, self._at + len(opener))
                return end if end < 0 else end + len(closer)
        found = None if COMMENT[0].startswith(self._buffer[self._at :]) else TAG.match(self._buffer, self._at)
        return found.end() if found else -1

    def _text(self, closer: bytes) -> Iterator[Token]:
        end = self._buffer.find(closer, self._at)
        ends = end >= 0
        stop = end if ends else max(self._at, len(self._buffer) - len(closer) + 1)
        text = self._buffer[self._at : stop]
        self._at += yield from (self._rest_of_run(text, ends=ends) if self._run else self._part(text, ends=ends))
        if ends and self._in_cdata and self._at == end:
            yield from self._close_cdata()

    def _close_cdata(self) -> Iterator[Token]:
        """Counts the closing mark; an empty section is kept as it is written."""
        self._at += len(CDATA[1])
        self._in_cdata = False
        xml = b"" if self._is_opened else b"".join(CDATA)
        yield Token(Kind.TEXT, xml, self._width(xml or CDATA[1]))

    def _rest_of_run(self, text: bytes, *, ends: bool) -> Generator[Token, None, int]:
        run = self._run
        if run is None:
            return 0
        used, is_over = run.feed(text, final=ends)
        if is_over:
            self._run = None
            yield self._content(run.stub, self._width(b" ") * run.characters)
        return used

    def _part(self, text: bytes, *, ends: bool) -> Generator[Token, None, int]:
        """The tokens of a text, or of as much of it as can be told from what is known; returns the bytes used."""
        if not ends and len(text) <= self._segment_bytes() + 2 * MIN_CHARACTERS:
            return 0
        run = find_run(text) if len(text) > MIN_CHARACTERS else None
        if run is None:
            segment = text if ends else text[: self._cut(text)]
            yield from self._segments(segment, self._wrapping())
            return len(segment)
        yield from self._segments(text[: run.start], self._wrapping())
        if run.is_open and not ends:
            self._run = RunReader(run.line)
            return run.start
        written = text[run.start : run.end]
        yield self._content(stub_of(written), self._width(written))
        return run.end

    def _cut(self, text: bytes) -> int:
        return safe_cut(text, self._segment_bytes())

    def _wrapping(self) -> tuple[bytes, bytes]:
        return CDATA if self._in_cdata else (b"", b"")

    def _content(self, xml: bytes, width: int) -> Token:
        before, after = self._wrapping()
        opening = self._width(before) if before and not self._is_opened else 0
        self._is_opened = True
        return Token(Kind.TEXT, before + xml + after, width + opening)

    def _segments(
        self, text: bytes, wrapping: tuple[bytes, bytes], opening: int = 0, closing: int = 0
    ) -> Iterator[Token]:
        while text:
            cut = len(text) if len(text) <= self._segment_bytes() else self._cut(text)
            part, text = text[:cut], text[cut:]
            if wrapping is COMMENT:
                width = self._width(part) + opening + (0 if text else closing)
                opening = 0
                yield Token(Kind.OTHER, part.join(COMMENT), width)
            else:
                yield self._content(part, self._width(part))


def safe_cut(text: bytes, limit: int) -> int:
    """Where a text can be cut at or before ``limit`` bytes: after white space, else between two characters.

    Never within a character, a reference, a line end of two characters, or after a hyphen.
    """
    for at in range(limit, limit - limit // 4, -1):
        if _BLANK.match(text, at - 1) and not text.startswith(b"\r\n", at - 1):
            return at
    at = limit
    while at > 1 and (text[at] & 0xC0 == 0x80 or text[at - 1 : at] in {b"-", b"\r"}):
        at -= 1
    reference = text.rfind(b"&", 0, at)
    if reference < 0 or text.find(b";", reference, at) >= 0:
        return at
    end = text.find(b";", reference)
    return reference or (end + 1 if end >= 0 else at)


def _kind_of(written: bytes) -> Kind:
    if written.startswith(b"</"):
        return Kind.END
    if written.startswith((b"<!", b"<?")):
        return Kind.OTHER
    return Kind.EMPTY if written.endswith(b"/>") else Kind.START
