"""How many requests a resource is asked at once: between 1 and a maximum, by latency and errors."""

from __future__ import annotations

from statistics import median

SMALLEST_WINDOW = 16  # samples
QUEUE_ALLOWED = 4.0  # requests that may wait at the server before the limit shrinks
TOLERANCE = 2.0  # times the usual latency that is still taken for noise: answers differ in length
SMOOTHING = 0.5  # share of a new limit that is taken over at once
LONG_WINDOWS = 20  # windows over which the usual latency is averaged
QUOTA_HORIZON = 300.0  # seconds: a quota that comes back later than this is to be made last
_QUOTA_SHARES = ((0.75, 1.0), (0.5, 0.5), (0.25, 0.3))  # what is left of a quota -> share of the maximum
_LEAST_SHARE = 0.1


class AdaptiveConcurrency:
    """Gradient2 of Netflix' concurrency-limits (2018): the limit shrinks when latency grows over what is usual.

    For each window of samples, with the median latency ``short`` and its exponential average ``long``::

        gradient  = clamp(TOLERANCE * long / short, 0.5, 1)
        limit     = (1 - SMOOTHING) * limit + SMOOTHING * (limit * gradient + QUEUE_ALLOWED)

    kept between 1 and ``maximum``, and unchanged where the limit was not used by half. It starts at the maximum: the
    latency of a model does not tell how many requests it takes, and a slow start would cost every short run. A window
    in which more than half of the requests failed lowers the limit by a third, once (multiplicative decrease).
    Not locked: whoever owns it calls it under a lock of his own.
    """

    def __init__(self, maximum: int, *, is_fixed: bool = False) -> None:
        self.maximum = maximum
        self._is_fixed = is_fixed
        self._limit = float(maximum)
        self._long: float | None = None
        self._latencies: list[float] = []
        self._failures = 0
        self._most_in_flight = 0

    @property
    def limit(self) -> int:
        """Requests at once, 1 to ``maximum``."""
        return max(int(self._limit), 1)

    def ended(self, latency: float, in_flight: int, *, failed: bool) -> None:
        """A request ended after ``latency`` seconds, while ``in_flight`` were out, itself included."""
        if self._is_fixed:
            return
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if failed:
            self._failures += 1
        else:
            self._latencies.append(latency)
        if len(self._latencies) + self._failures >= max(SMALLEST_WINDOW, self.limit):
            self._adapt()

    def _adapt(self) -> None:
        failures, latencies, most = self._failures, self._latencies, self._most_in_flight
        self._failures, self._latencies, self._most_in_flight = 0, [], 0
        if failures > len(latencies):
            self._limit = max(self._limit * 2 / 3, 1.0)
            return
        short = median(latencies)
        long = self._long = short if self._long is None else self._long + (short - self._long) / LONG_WINDOWS
        if long > 2 * short:
            self._long = long * 0.95  # latency has fallen: the average follows quicker
        if most < self._limit / 2:
            return
        gradient = min(max(TOLERANCE * long / short if short > 0 else 1.0, 0.5), 1.0)
        wanted = self._limit * gradient + QUEUE_ALLOWED
        self._limit = min(max(self._limit + SMOOTHING * (wanted - self._limit), 1.0), float(self.maximum))


def quota_bound(maximum: int, share_left: float, seconds_until_whole: float) -> int:
    """How many requests at once a quota allows that comes back as a whole, and late.

    Over 75 % left: all; over 50 %: half; over 25 %: three tenths; else a tenth of ``maximum``, at least 1. A limit that
    refills while the work goes on needs no such bound: its rate is kept anyway.
    """
    if seconds_until_whole < QUOTA_HORIZON:
        return maximum
    share = next((share for left, share in _QUOTA_SHARES if share_left > left), _LEAST_SHARE)
    return max(round(maximum * share), 1)
