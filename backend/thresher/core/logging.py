"""Logs: structured events on stderr or in a file, for people (console) or machines (JSON).

No line holds a secret or personal data: fields are numbers, names of classes and our own words; tracebacks come without
the messages of errors, since those quote values; what is known to be a secret is struck out of every finished line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote

import structlog

from thresher.core.correlation import current
from thresher.core.errors import BadConfiguration, own_words

DEBUG, INFO, WARNING = logging.DEBUG, logging.INFO, logging.WARNING
STRUCK_OUT = "***"
SHORTEST_SECRET = 4  # characters; a shorter one would be struck out of half of all words
_USER_INFO = re.compile(r"(?<=://)[^/@\s\"'?#]+(?=@)")  # of an address, whoever wrote it there


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which events are written, how, and where to (stderr where ``file`` is None).

    ``secrets`` are struck out wherever they stand.
    """

    level: str = "WARNING"
    log_format: str = "console"
    file: Path | None = None
    secrets: Sequence[str] = ()


class _Configured:
    """What holds for this process: the level below which nothing is written, and the file that is open."""

    threshold = WARNING
    file: TextIO | None = None


def is_logged(level: int) -> bool:
    """Whether events of a level are written: to ask before a line that would be made for every item."""
    return level >= _Configured.threshold


def configure_logging(options: LogOptions | None = None) -> None:
    """Sends all events of at least the level to where they belong. Called once where a process starts.

    Raises:
        BadConfiguration: the log file cannot be written.
    """
    options = options or LogOptions()
    file = _opened(options.file) if options.file is not None else None
    stream = file or sys.stderr
    _Configured.threshold = logging.getLevelNamesMapping()[options.level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_correlation,
            structlog.processors.add_log_level,
            _add_logger,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _explain_exception,
            _Safely(_renderer(options.log_format, stream), Redaction(options.secrets)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_Configured.threshold),
        logger_factory=_lines_on(stream),
        cache_logger_on_first_use=False,  # tests and long processes configure again
    )
    _hear_libraries()
    if _Configured.file is not None:
        with suppress(OSError):
            _Configured.file.close()
    _Configured.file = file


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a module. Warnings go to stderr even where nobody has configured anything."""
    if not structlog.is_configured():
        configure_logging()
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


def _opened(file: Path) -> TextIO:
    try:
        return file.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise BadConfiguration(f"LOG_FILE {file} cannot be written: {error.strerror}.") from error


def _renderer(log_format: str, stream: TextIO) -> structlog.types.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(serializer=_json)
    plain = structlog.dev.plain_traceback  # the rich one prints the values of variables
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)


def _json(value: object, **options: Any) -> str:  # noqa: ANN401 # as structlog calls it
    return json.dumps(value, ensure_ascii=False, **options)


class _Lines(structlog.PrintLogger):
    """Writes lines. A disk that is full or a terminal that is gone costs the line, never the work."""

    def __init__(self, name: str, stream: TextIO) -> None:
        super().__init__(stream)
        self.name = name

    def msg(self, message: str) -> None:
        """Writes one line."""
        with suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def _lines_on(stream: TextIO) -> Callable[..., _Lines]:
    return lambda name="thresher", *_rest: _Lines(name, stream)


def _add_correlation(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Every level on its own, and all of them in one word."""
    place = current()
    if place is None:
        return event
    levels = {"run_id": place.run_id, "batch": place.batch, "item": place.item, "attempt": place.attempt}
    for name, value in levels.items():
        if value is not None:
            event.setdefault(name, value)
    event.setdefault("correlation_id", place.id)
    return event


def _add_logger(logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.setdefault("logger", getattr(logger, "name", "thresher"))
    return event


def _explain_exception(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Turns ``exc_info`` into text: where it happened and what class it was, without the error's own message."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event["exception"] = "".join(_explained(error)).rstrip()
    return event


def _explained(error: BaseException) -> Iterator[str]:
    """The traceback as Python prints it, causes first, with the message only where it is in our own words."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _explained(cause)
        yield "\n-- led to --\n"
    yield from _places(error.__traceback__)
    words = own_words(error)
    yield type(error).__qualname__ + (f": {words}" if words else "") + "\n"


def _places(trace: TracebackType | None) -> Sequence[str]:
    return ["Traceback (most recent call last):\n", *traceback.format_tb(trace)] if trace is not None else []


class _Safely:
    """Renders an event and strikes out what must not be read: the last step of every line."""

    def __init__(self, render: structlog.types.Processor, redact: Redaction) -> None:
        self._render = render
        self._redact = redact

    def __call__(self, logger: object, method: str, event: structlog.typing.EventDict) -> str:
        """The line as it may be written."""
        return self._redact(str(self._render(logger, method, event)))


class Redaction:
    """Strikes out of a text what is secret, also where it stands escaped, and the user-info of any address."""

    def __init__(self, secrets: Sequence[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, line: str) -> str:
        """The text without them."""
        if self._secrets is not None:
            line = self._secrets.sub(STRUCK_OUT, line)
        return _USER_INFO.sub(STRUCK_OUT, line) if "://" in line else line


def _forms(secret: str) -> set[str]:
    """How a secret may stand in a line: as it is, in an address, in JSON, in Python's notation."""
    escaped = (json.dumps(secret), _json(secret), repr(secret))
    return {secret, quote(secret, safe=""), *(form[1:-1] for form in escaped)}


class _Libraries(logging.Handler):
    """What libraries warn of, as an event: their wording without its arguments, which may be anything."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the event."""
        words = record.msg if isinstance(record.msg, str) and record.args else f"a message of {record.name}"
        error = record.exc_info[1] if record.exc_info else None
        get_logger(record.name).log(record.levelno, "library message", message=words, exc_info=error)


def _hear_libraries() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, _Libraries) for handler in root.handlers):
        root.addHandler(_Libraries(logging.WARNING))
