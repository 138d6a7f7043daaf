"""The rate limit: a token bucket that can say when it is full."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from thresher.testing.model_server.options import Limits

TOKENS_PER_REQUEST = 10_000
"""The model tokens that the headers show for each request of the bucket; they are shown, not enforced."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request was let in, the headers to send with its reply, and seconds to wait where it was not."""

    allowed: bool = True
    headers: bytes = b""
    wait: float = 0.0


LET_IN = Admission()


class Bucket:
    """Refills at ``rate`` requests per second up to ``burst``. Times in seconds of one monotonic clock."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._rate = limits.rate or math.inf
        self._level = float(limits.burst)
        self._filled_at = now

    def change(self, rate: float, burst: int, now: float) -> None:
        """From now on another limit; what is in the bucket stays, as far as it fits in."""
        self._fill(now)
        self._limits = replace(self._limits, rate=rate, burst=burst)
        self._rate = rate
        self._level = min(self._level, float(burst))

    def _fill(self, now: float) -> None:
        self._level = min(self._limits.burst, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now

    def admit(self, now: float) -> Admission:
        """Takes one request out of the bucket, if one is there."""
        limits = self._limits
        if limits.rate is None:
            return LET_IN
        self._fill(now)
        allowed = self._level >= 1.0
        self._level -= 1.0 if allowed else 0.0
        wait = 0.0 if allowed else (1.0 - self._level) / self._rate
        return Admission(allowed, self._headers(wait), wait)

    def _headers(self, wait: float) -> bytes:
        lines = []
        if self._limits.headers:
            burst, level, reset = self._limits.burst, int(self._level), _duration(self._until_full)
            for unit, scale in (("requests", 1), ("tokens", TOKENS_PER_REQUEST)):
                lines.append(f"x-ratelimit-limit-{unit}: {burst * scale}\r\n")
                lines.append(f"x-ratelimit-remaining-{unit}: {level * scale}\r\n")
                lines.append(f"x-ratelimit-reset-{unit}: {reset}\r\n")
        if self._limits.retry_after and wait:
            lines.append(f"retry-after: {math.ceil(wait)}\r\nretry-after-ms: {math.ceil(wait * 1000)}\r\n")
        return "".join(lines).encode()

    @property
    def _until_full(self) -> float:
        return (self._limits.burst - self._level) / self._rate


def _duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: ``20ms``, ``1.5s``, ``6m0s``."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds / 1000, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
