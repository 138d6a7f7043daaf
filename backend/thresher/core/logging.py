"""Logs: structured events on stderr, for people (console) or machines (JSON)."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(level: str = "WARNING", log_format: str = "console") -> None:
    """Sends all events of at least ``level`` to stderr; ``log_format`` is ``console`` or ``json``.

    Called once where a process starts; stdout stays free for results.
    """
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer()
    exceptions = [structlog.processors.format_exc_info]
    if log_format == "console":
        exceptions = []  # the console renderer writes them itself
        plain = structlog.dev.plain_traceback  # the rich one prints the values of variables
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,  # tests and long processes configure again
    )


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a module. Warnings go to stderr even where nobody has configured anything."""
    if not structlog.is_configured():
        configure_logging()
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger
