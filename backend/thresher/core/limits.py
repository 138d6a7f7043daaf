"""What the other side says of its limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReportedLimits:
    """What a reply said of the limits (``x-ratelimit-*``): counts per window, and seconds until a window resets.

    None where the reply was silent. ``retry_after`` is the server's own wish, in seconds.
    """

    limit_requests: int | None = None
    limit_tokens: int | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests: float | None = None
    reset_tokens: float | None = None
    retry_after: float | None = None


SILENT = ReportedLimits()
