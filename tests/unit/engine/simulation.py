"""Workers, our limiter and a server with a limit, in simulated time: the same draw for the same seed."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from thresher.core.errors import RateLimited
from thresher.core.limits import ReportedLimits
from thresher.engine.admission import UNTIL_FREED, Admission, Pass, ResourceLimits

REFUSAL_TAKES = 0.003  # seconds
NETWORK = 0.0005  # seconds in the mean, exponentially distributed: requests overtake each other


class Bucket:
    """Refills at ``rate`` per second up to ``burst``."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self.level, self.at = burst, 0.0

    def change(self, now: float, rate: float, burst: float) -> None:
        self.fill(now)
        self.rate, self.burst, self.level = rate, burst, min(self.level, burst)

    def fill(self, now: float) -> None:
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now

    def admit(self, now: float, units: float = 1.0) -> tuple[bool, float, float, float]:
        """Whether it is let in, what remains, seconds until all is back, seconds to wait."""
        self.fill(now)
        allowed = self.level >= units
        self.level -= units if allowed else 0.0
        wait = 0.0 if allowed else (units - self.level) / self.rate
        return allowed, self.level, (self.burst - self.level) / self.rate, wait


class Window:
    """Lets ``rate * seconds`` requests through in each window of so many seconds."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.burst, self.seconds = rate * seconds, seconds
        self.began, self.used = 0.0, 0.0

    def admit(self, now: float, units: float = 1.0) -> tuple[bool, float, float, float]:
        if now - self.began >= self.seconds:
            self.began, self.used = now - (now - self.began) % self.seconds, 0.0
        allowed = self.used + units <= self.burst
        self.used += units if allowed else 0.0
        reset = self.began + self.seconds - now
        return allowed, self.burst - self.used, reset, 0.0 if allowed else reset


@dataclass(frozen=True)
class Says:
    """What the server tells of its limit."""

    headers: bool = False
    retry_after: bool = False


@dataclass
class Came:
    """How it went: times in seconds."""

    seconds: float = 0.0
    done: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    too_early: int = 0  # requests after a Retry-After was received and before its time

    def rate(self, start: float, end: float) -> float:
        return sum(start <= at < end for at in self.done) / (end - start)

    def refused_after(self, moment: float) -> int:
        return sum(at > moment for at in self.refused)


@dataclass
class Simulation:
    server: Bucket | Window
    says: Says = Says()
    workers: int = 64
    items: int = 400
    latency: float = 0.05  # seconds
    limits: ResourceLimits | None = None
    changes: Sequence[tuple[float, float, float]] = ()  # moment, rate, burst
    seed: int = 0

    def run(self) -> Came:
        self.random = random.Random(self.seed)
        self.admission = Admission(self.limits or ResourceLimits(concurrency=self.workers), 0.0)
        self.events: list[tuple[float, int, str, tuple[Pass, ReportedLimits | None, RateLimited | None] | None]] = []
        self.numbers = itertools.count()
        self.now, self.idle, self.open, self.closed_until = 0.0, self.workers, self.items, 0.0
        self.came, self.waiting = Came(), list(self.changes)
        while len(self.came.done) < self.items:
            wait = self.start_all()
            due = self.events[0][0] if self.events else math.inf
            if self.idle and self.open and wait < UNTIL_FREED and self.now + wait < due:
                self.now += wait + self.random.expovariate(1 / NETWORK)
            else:
                self.step()
        self.came.seconds = self.now
        return self.came

    def start_all(self) -> float:
        while self.idle and self.open:
            wait = self.admission.wait(self.now)
            if wait > 0:
                return wait
            self.idle -= 1
            self.open -= 1
            self.came.too_early += self.now < self.closed_until
            entry = self.admission.enter(self.now)
            self.later(self.random.expovariate(1 / NETWORK), "arrives", (entry, None, None))
        return UNTIL_FREED

    def later(
        self, seconds: float, what: str, case: tuple[Pass, ReportedLimits | None, RateLimited | None] | None
    ) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), what, case))

    def step(self) -> None:
        at, _, what, case = heapq.heappop(self.events)
        self.now = max(self.now, at)
        if case is None:
            self.open += 1
        elif what == "arrives":
            self.arrive(case[0])
        else:
            self.end(*case)

    def arrive(self, entry: Pass) -> None:
        while self.waiting and self.now >= self.waiting[0][0]:
            assert isinstance(self.server, Bucket)
            self.server.change(*self.waiting.pop(0))
        allowed, level, reset, wait = self.server.admit(self.now)
        said = None
        if self.says.headers:
            until = math.ceil(reset * 1000) / 1000
            said = ReportedLimits(
                limit_requests=int(self.server.burst), remaining_requests=int(level), reset_requests=until
            )
        if allowed:
            self.later(self.latency * math.exp(self.random.gauss(-0.02, 0.2)), "ends", (entry, said, None))
        else:
            after = math.ceil(wait * 1000) / 1000 if self.says.retry_after else None
            self.later(REFUSAL_TAKES, "ends", (entry, said, RateLimited("429", retry_after=after, limits=said)))

    def end(self, entry: Pass, said: ReportedLimits | None, error: RateLimited | None) -> None:
        self.idle += 1
        if error is None:
            entry.reported = said or ReportedLimits()
            self.admission.leave(self.now, entry, None)
            self.came.done.append(self.now)
            return
        self.admission.leave(self.now, entry, error)
        self.came.refused.append(self.now)
        self.closed_until = max(self.closed_until, self.now + (error.retry_after or 0.0))
        self.later(error.retry_after or self.random.uniform(0.5, 1.5), "again", None)
