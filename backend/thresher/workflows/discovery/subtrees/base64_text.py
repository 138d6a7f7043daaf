"""Long base64 texts: found, and replaced by a stub that says how long they were and what their digest is."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass

MIN_CHARACTERS = 2_048
_BLOCK = MIN_CHARACTERS // 2
_MIN_LINE = 40
_LINE = re.compile(rb"[A-Za-z0-9+/]{%d,}" % _MIN_LINE)
_CLASSES = (re.compile(rb"[A-Z]"), re.compile(rb"[a-z]"), re.compile(rb"[0-9+/]"))
_BLANKS = re.compile(rb"\s+")
_LONG_VALUE = re.compile(rb"""=\s*("[^"]{2048,}"|'[^']{2048,}')""")


@dataclass(frozen=True, slots=True)
class Run:
    """A run of base64: where it stands in a text; ``is_open`` where it reaches the end of what is known so far.

    ``line`` is the length of its lines, 0 where it is not broken into lines.
    """

    start: int
    end: int
    line: int
    is_open: bool


def find_run(text: bytes, start: int = 0) -> Run | None:
    """The first run of more than ``MIN_CHARACTERS`` base64 characters.

    Base64 is one unbroken text, or lines of one length (at least 40; the last may be shorter), of the standard
    alphabet, with capitals, small letters and digits in it, of a length that base64 can have. So prose, lists of
    identifiers, hexadecimal digits and genomes stay what they are.
    """
    while (found := _LINE.search(text, start)) is not None:
        run = _run_at(text, found)
        if _is_base64(text[run.start : run.end], is_open=run.is_open):
            return run
        start = max(run.end, found.end())
    return None


def has_long_run(markup: bytes, start: int, stop: int) -> bool:
    """Whether a text or tag may be long enough for base64: it then covers a whole block without any ``<``."""
    if stop - start <= MIN_CHARACTERS:
        return False
    return any(markup.find(b"<", at, at + _BLOCK) < 0 for at in range(start, stop - _BLOCK + 1, _BLOCK))


def stub(characters: int, digest: str) -> bytes:
    """What stands for a run: how many characters it had as written, and the start of their SHA-256."""
    return f"[base64 omitted: {characters} characters, sha256 {digest[:16]}]".encode()


def stub_of(run: bytes) -> bytes:
    """The stub of a run that is at hand."""
    return stub(len(run), hashlib.sha256(run).hexdigest())


def stub_attributes(tag: bytes) -> bytes:
    """A start tag with the base64 in its attributes replaced by stubs."""
    return _LONG_VALUE.sub(_stub_value, tag) if len(tag) > MIN_CHARACTERS else tag


class RunReader:
    """Reads a run to its end, however long, without keeping it."""

    def __init__(self, line: int) -> None:
        self._lines = _lines_of(line)
        self._digest = hashlib.sha256()
        self._characters = 0

    def feed(self, data: bytes, *, final: bool) -> tuple[int, bool]:
        """Reads on: how many bytes belong to the run, and whether it has ended.

        Bytes that are not counted are given again, with more behind them.
        """
        start = 0 if self._characters else self._lines.length
        end = self._lines.end_of_whole(data, start, final=final)
        is_over = final or not self._lines.may_go_on(data, end)
        if is_over:
            end = self._lines.end_of_last(data, end)
        self._digest.update(data[:end])
        self._characters += end
        return end, is_over

    @property
    def stub(self) -> bytes:
        """What stands for the run that was read."""
        return stub(self._characters, self._digest.hexdigest())

    @property
    def characters(self) -> int:
        """The length of the run so far."""
        return self._characters


class _Lines:
    """How the lines of a run go on. ``length`` is theirs in characters, 0 where the run is one unbroken text."""

    def __init__(self, length: int) -> None:
        self.length = length
        line, short = b"[A-Za-z0-9+/]{%d}" % length, b"[A-Za-z0-9+/]{1,%d}+" % max(1, length - 1)
        self._whole = re.compile(rb"(?:\s+%s(?![A-Za-z0-9+/]))*+" % line if length else rb"[A-Za-z0-9+/]*+")
        self._sure = re.compile(rb"(?:\s+%s(?=[^A-Za-z0-9+/]))*+" % line) if length else self._whole
        self._last = re.compile(rb"(?:\s+%s(?![A-Za-z0-9+/]))?+={0,2}" % short if length else rb"={0,2}")
        self._open = re.compile(rb"\s{0,64}[A-Za-z0-9+/]{0,%d}={0,2}" % length)

    def end_of_whole(self, data: bytes, start: int, *, final: bool = True) -> int:
        """Behind the last line of full length; where more may follow, only lines that certainly end are taken."""
        found = (self._whole if final else self._sure).match(data, start)
        return found.end() if found else start

    def end_of_last(self, data: bytes, start: int) -> int:
        """Behind the shorter last line and the padding."""
        found = self._last.match(data, start)
        return found.end() if found else start

    def may_go_on(self, data: bytes, end: int) -> bool:
        """Whether what comes after ``end`` could be the beginning of more of the run."""
        return self._open.fullmatch(data, end) is not None


def _run_at(text: bytes, first: re.Match[bytes]) -> Run:
    """The longest run that starts with this line."""
    lines = _lines_of(len(first[0]))
    whole = lines.end_of_whole(text, first.end())
    if whole == first.end():
        lines = _lines_of(0)
    return Run(first.start(), lines.end_of_last(text, whole), lines.length, is_open=lines.may_go_on(text, whole))


@functools.lru_cache(maxsize=64)
def _lines_of(length: int) -> _Lines:
    return _Lines(length)


def _is_base64(run: bytes, *, is_open: bool) -> bool:
    characters = _BLANKS.sub(b"", run)
    if len(characters) <= MIN_CHARACTERS or not all(kind.search(characters) for kind in _CLASSES):
        return False
    remainder = len(characters) % 4
    return is_open or remainder == 0 or (remainder != 1 and not characters.endswith(b"="))


def _stub_value(found: re.Match[bytes]) -> bytes:
    written, value = found[0], found[1]
    done, at = [], 0
    while (run := find_run(value, at)) is not None:
        done += [value[at : run.start], stub_of(value[run.start : run.end])]
        at = run.end
    return written[: -len(value)] + b"".join([*done, value[at:]])
