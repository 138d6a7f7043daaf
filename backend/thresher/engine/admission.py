"""Whether one more request may be sent to a resource now, and what its end teaches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from thresher.core.errors import RateLimited, ResourceUnavailable, RetryableError
from thresher.core.limits import SILENT, ReportedLimits
from thresher.engine.breaker import Breaker, BreakerPolicy
from thresher.engine.concurrency import AdaptiveConcurrency, quota_bound
from thresher.engine.rate_limit import Allowance, Mark, Pace

UNTIL_FREED = 3600.0  # seconds: longer than anybody waits without being woken
_RATIO_SHARE = 0.1  # of a request's real tokens over its estimate that goes into the average


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What is known of a resource beforehand. Rates are per minute, as providers name them; None: to be found out.

    ``concurrency`` is the most requests at once (None: as many as there are workers), which adapts between 1 and that
    where ``is_adaptive``.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None
    is_adaptive: bool = True
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)


@dataclass(slots=True)
class Pass:
    """One request that was let in. ``tokens`` is its estimate, ``cost`` what was taken for it.

    ``is_evidence`` is False where its failure would say nothing of the resource. ``waited`` is how long it had to.
    """

    entered_at: float
    tokens: float
    cost: float
    is_probe: bool
    requests_mark: Mark
    tokens_mark: Mark
    reported: ReportedLimits = SILENT
    used_tokens: int | None = None
    is_evidence: bool = True
    waited: float = 0.0  # seconds


class Admission:
    """Everything that bounds the requests to one resource, in one place. Not locked; ``now`` comes from the caller.

    Three sources of rates, of which the slowest counts: what a person has set, what replies say (``x-ratelimit-*``),
    and, where they say nothing, what refusals teach. After a refusal nobody enters before the server's own
    Retry-After has passed.
    """

    def __init__(self, limits: ResourceLimits, now: float) -> None:
        self.in_flight = 0
        self.circuit = Breaker(limits.breaker)
        self._open_seconds = limits.breaker.open_seconds
        self._concurrency = (
            AdaptiveConcurrency(limits.concurrency, is_fixed=not limits.is_adaptive) if limits.concurrency else None
        )
        self._told_requests, self._told_tokens = Allowance(), Allowance()
        self._set_requests = _per_minute(limits.requests_per_minute, now, first=1.0)
        self._set_tokens = _per_minute(limits.tokens_per_minute, now, first=math.inf)
        self._pace = Pace(now)
        self._closed_until = now
        self._token_ratio = 1.0  # of real tokens to estimated ones

    @property
    def concurrency(self) -> int | None:
        """Requests at once at this moment; None where there is no bound."""
        return self._concurrency.limit if self._concurrency else None

    def sent_per_second(self, now: float) -> float:
        """Requests per second of late, measured."""
        return self._pace.sent_per_second(now)

    def requests_limit(self, now: float) -> float | None:
        """Requests per second that may be sent in the long run: set, told or found out; None: no limit is known."""
        return _slowest(
            self._set_requests.rate if self._set_requests else None,
            self._told_requests.rate or None,
            self._pace.rate(now) if self._pace.is_limited and self._told_requests.limit is None else None,
        )

    def tokens_limit(self) -> float | None:
        """Tokens per second, likewise."""
        return _slowest(self._set_tokens.rate if self._set_tokens else None, self._told_tokens.rate or None)

    def pause(self, now: float) -> float:
        """Seconds for which the server has asked to be left alone."""
        return max(self._closed_until - now, 0.0)

    def wait(self, now: float, tokens: float = 0.0) -> float:
        """Seconds until a request of about ``tokens`` tokens may enter; 0 when it may now."""
        if self._is_full(now):
            return UNTIL_FREED
        cost = tokens * self._token_ratio
        requests, circuit = self._told_requests, self.circuit.wait(now)
        rate = self._pace.wait(now) if requests.limit is None else requests.wait(now, 1.0)
        wait = max(self._closed_until - now, circuit, rate, self._told_tokens.wait(now, cost))
        if self._set_requests is not None:
            wait = max(wait, self._set_requests.wait(now, 1.0))
        return wait if self._set_tokens is None else max(wait, self._set_tokens.wait(now, cost))

    def enter(self, now: float, tokens: float = 0.0) -> Pass:
        """A request is sent."""
        self.in_flight += 1
        cost = tokens * self._token_ratio
        if self._set_requests is not None:
            self._set_requests.take(now, 1.0)
        if self._set_tokens is not None:
            self._set_tokens.take(now, cost)
        self._pace.sent(now)
        marks = self._told_requests.take(now, 1.0), self._told_tokens.take(now, cost)
        return Pass(now, tokens, cost, self.circuit.enter(), *marks)

    def leave(self, now: float, entry: Pass, error: BaseException | None) -> None:
        """A request has ended: with a reply, or with the error that it was turned into."""
        in_flight = self.in_flight
        self.in_flight -= 1
        self._learn(entry)
        if error is None or not isinstance(error, RetryableError):
            self._answered(now, entry, error, in_flight)
        elif isinstance(error, RateLimited):
            self.circuit.succeeded(is_probe=entry.is_probe)
            self._refused(now, entry, error)
        else:
            self._closed_until = max(self._closed_until, now + (error.retry_after or 0.0))
            self._ended(now, entry, in_flight, failed=True)
            if entry.is_evidence or entry.is_probe:
                self.circuit.failed(now, is_probe=entry.is_probe, in_flight=in_flight)

    def _answered(self, now: float, entry: Pass, error: BaseException | None, in_flight: int) -> None:
        if error is not None and not isinstance(error, Exception):  # an interrupt: nothing is known of the server
            self.circuit.left(is_probe=entry.is_probe)
            return
        self.circuit.succeeded(is_probe=entry.is_probe)
        self._ended(now, entry, in_flight, failed=False)

    def _ended(self, now: float, entry: Pass, in_flight: int, *, failed: bool) -> None:
        if self._concurrency is not None:
            self._concurrency.ended(now - entry.entered_at, in_flight, failed=failed)

    def _refused(self, now: float, entry: Pass, error: RateLimited) -> None:
        said = error.limits or SILENT
        if said.remaining_tokens is not None and said.remaining_requests:
            self._told_tokens.refused(entry.tokens_mark, cost=entry.cost)
        else:
            self._told_requests.refused(entry.requests_mark)
        self._pace.refused(now, entry.entered_at)
        if error.retry_after is not None:
            self._closed_until = max(self._closed_until, now + error.retry_after)

    def _learn(self, entry: Pass) -> None:
        said = entry.reported
        if said.limit_requests and said.remaining_requests is not None:
            self._told_requests.learn(
                entry.requests_mark, said.limit_requests, said.remaining_requests, said.reset_requests
            )
        if said.limit_tokens and said.remaining_tokens is not None:
            self._told_tokens.learn(entry.tokens_mark, said.limit_tokens, said.remaining_tokens, said.reset_tokens)
        if entry.used_tokens is not None and entry.tokens > 0:
            if self._set_tokens is not None:
                self._set_tokens.give_back(entry.cost - entry.used_tokens, entry.tokens_mark)
            self._token_ratio += _RATIO_SHARE * (entry.used_tokens / entry.tokens - self._token_ratio)
        entry.reported, entry.used_tokens = SILENT, None

    def _is_full(self, now: float) -> bool:
        if self._concurrency is None:
            return False
        limit = self._concurrency.limit
        for quota in (self._told_requests, self._told_tokens):
            if quota.is_window:
                limit = min(
                    limit, quota_bound(self._concurrency.maximum, quota.share_left(now), quota.until_reset(now))
                )
        return self.in_flight >= limit

    def probe_failed(self, error: RetryableError) -> ResourceUnavailable:
        """The error of a probe, which says nothing of its item: that waits until another has been sent as the next."""
        return ResourceUnavailable(str(error), retry_after=2 * self._open_seconds)

    def is_hopeless(self, now: float) -> bool:
        """Whether nothing has succeeded for longer than anybody wants to wait."""
        return self.circuit.is_hopeless(now)


def _per_minute(rate: float | None, now: float, *, first: float) -> Allowance | None:
    return None if rate is None else Allowance.of_rate(rate / 60.0, now, first)


def _slowest(*rates: float | None) -> float | None:
    return min((rate for rate in rates if rate is not None), default=None)
