"""Reads what a reply says of rate limits: ``x-ratelimit-*``, ``retry-after-ms``, ``retry-after``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from thresher.core.limits import SILENT, ReportedLimits

_WANTED = frozenset(
    {
        b"x-ratelimit-limit-requests",
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-requests",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-requests",
        b"x-ratelimit-reset-tokens",
        b"retry-after-ms",
        b"retry-after",
    }
)

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # seconds
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def read_rate_headers(headers: Mapping[bytes, bytes]) -> ReportedLimits:
    """Picks the limits out of a reply's headers (by lower-case name); what cannot be read counts as not said."""
    if _WANTED.isdisjoint(headers):
        return SILENT
    found = {name: headers[name].decode("latin-1").strip() for name in _WANTED if name in headers}
    return ReportedLimits(
        limit_requests=count(found.get(b"x-ratelimit-limit-requests", "")),
        limit_tokens=count(found.get(b"x-ratelimit-limit-tokens", "")),
        remaining_requests=count(found.get(b"x-ratelimit-remaining-requests", "")),
        remaining_tokens=count(found.get(b"x-ratelimit-remaining-tokens", "")),
        reset_requests=duration(found.get(b"x-ratelimit-reset-requests", "")),
        reset_tokens=duration(found.get(b"x-ratelimit-reset-tokens", "")),
        retry_after=_wait(found),
    )


def duration(text: str) -> float | None:
    """Seconds of "1s", "6m0s", "20ms", "1h2m3.5s" or a bare number of seconds; None for anything else."""
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    return _seconds(text)


def count(text: str) -> int | None:
    """A number of requests or tokens; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _wait(found: dict[bytes, str]) -> float | None:
    milliseconds = _seconds(found.get(b"retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = found.get(b"retry-after", "")
    seconds = _seconds(text)
    return seconds if seconds is not None else _until(text)


def _seconds(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _until(date: str) -> float | None:
    """Seconds from now to an HTTP date; 0 for one in the past."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
