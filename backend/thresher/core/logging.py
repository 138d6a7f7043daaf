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
    if log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
