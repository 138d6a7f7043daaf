"""What a document is, and whether it can be read: what is looked at where the paths to take are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thresher.workflows.discovery.subtrees.detection import TELLING, TEXTS, Detection, Detector
from thresher.workflows.discovery.subtrees.limits import MEBIBYTE, Limits
from thresher.workflows.discovery.subtrees.names import split_name
from thresher.workflows.discovery.subtrees.parsing import GuardedParser
from thresher.workflows.discovery.subtrees.source import SourceDocument

WHOLE_UP_TO = 16 * MEBIBYTE
WINDOW_BYTES = 2 * MEBIBYTE
_MAX_TEXT = 256  # pieces, and characters of each


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a document is, and the encoding it is written in."""

    detection: Detection
    encoding: str


def recognise(document: SourceDocument, limits: Limits | None = None) -> Recognition:
    """Looks over a document as ``survey`` does, for what it is alone: that takes a fraction of the time.

    Raises:
        MalformedDocument: what was read is not well-formed XML; says line and column.
        UnsafeDocument: it declares entities or is beyond a bound.
    """
    look = _Recognising(document, limits or document.limits)
    look.read()
    return Recognition(look.detector.result(), look.encoding)


class Look:
    """One look over one document: all of it where it is small, else its beginning."""

    def __init__(self, document: SourceDocument, limits: Limits) -> None:
        self.detector = Detector()
        self.encoding = document.encoding.declared or document.encoding.codec
        self._document = document
        self._limits = limits
        self._parser = GuardedParser(document.name, limits)
        self._parser.handle(self._on_start, self._on_end, self._on_declaration)
        self._names: list[str] = []  # the parser's, of the elements that are open
        self._texts: list[str] = []
        self._read = 0  # bytes of UTF-8
        self._has_begun = False

    def read(self) -> bool:
        """Reads; says whether it went to the end."""
        for chunk in self._first_chunks():
            self._read += len(chunk)
            if not chunk:
                self._parser.close()
                return True
            self._take(chunk)
        return False

    def _take(self, chunk: bytes) -> None:
        self._parser.feed(chunk)

    def _first_chunks(self) -> Iterator[bytes]:
        """The whole document where it is small (inflated, too), else its beginning."""
        is_small = self._document.size_bytes <= WHOLE_UP_TO and not self._document.is_gzip
        for chunk in self._document.utf8_chunks():
            yield chunk
            if not is_small and self._read >= WINDOW_BYTES and self._has_begun:
                return

    def _on_declaration(self, _prefix: str | None, uri: str | None) -> None:
        if uri:
            self.detector.note_namespaces([uri])

    def _on_start(self, name: str, attributes: list[str]) -> None:
        raise NotImplementedError

    def _on_end(self, name: str) -> None:
        raise NotImplementedError

    def _refuse_attributes(self) -> None:
        self._parser.refuse(f"an element has more than {self._limits.max_attributes:,} attributes")

    def _detect(self, name: str, attributes: list[str]) -> None:
        self.detector.start(self._path(), name, attributes)
        if split_name(name)[1] in TEXTS:
            self._texts = []
            self._parser.hear_text(self._on_text)

    def _path(self) -> list[str]:
        return [split_name(name)[1] for name in self._names]

    def _on_text(self, text: str) -> None:
        if len(self._texts) < _MAX_TEXT:
            self._texts.append(text[:_MAX_TEXT])

    def _end_of_text(self) -> None:
        self._parser.hear_text(None)
        self.detector.text(self._path(), "".join(self._texts))


class _Recognising(Look):
    """Counts no paths. Once nothing more can tell what the document is, only its bounds are watched."""

    def __init__(self, document: SourceDocument, limits: Limits) -> None:
        super().__init__(document, limits)
        self._deepest = limits.max_depth
        self._most_attributes = 2 * limits.max_attributes  # names and values
        self._depth = 0

    def _on_start(self, name: str, attributes: list[str]) -> None:
        self._has_begun = True
        self._names.append(name)
        self._enter(name, attributes)
        detector = self.detector
        if detector.is_looking or split_name(name)[1] in TELLING:
            self._detect(name, attributes)
            if detector.knows_all:
                self._parser.hear_text(None)
                self._parser.handle(self._enter, self._leave, self._on_declaration)

    def _on_end(self, name: str) -> None:
        if split_name(name)[1] in TEXTS:
            self._end_of_text()
        self._names.pop()
        self._depth -= 1

    def _enter(self, _name: str, attributes: list[str]) -> None:
        self._depth += 1
        if self._depth > self._deepest:
            self._parser.refuse_depth()
        if len(attributes) > self._most_attributes:
            self._refuse_attributes()

    def _leave(self, _name: str) -> None:
        self._depth -= 1
