"""What a workspace has done lately, hour by hour or day by day, as the reader's clock has them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from thresher.engine.work import RunStatus
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.history import RunsBegun, Tries, runs_begun, tries

UTC_NAME = "UTC"
_HOURS = 24


class Span(Enum):
    """How far back; in days, 1 is told by the hour."""

    DAY = 1
    WEEK = 7
    MONTH = 30
    QUARTER = 90

    @property
    def is_hourly(self) -> bool:
        """Whether hours are told apart."""
        return self is Span.DAY


@dataclass(slots=True)
class Step:
    """An hour or a day, from ``begin`` on."""

    begin: datetime
    runs: Counter[RunStatus] = field(default_factory=Counter)
    read: int = 0
    failed: int = 0
    requests: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    cache_hits: int = 0

    def add(self, found: Tries) -> None:
        """Counts the tries of a slice."""
        if found.error_class is None:
            self.read += found.tries
        else:
            self.failed += found.tries
        self.requests += found.requests
        self.tokens += found.tokens
        self.cost_usd += found.cost_usd
        self.unpriced += found.unpriced
        self.cache_hits += found.cache_hits


@dataclass(frozen=True, slots=True)
class Dashboard:
    """All steps, the oldest first, also those without anything; ``whole`` is their sum.

    ``errors``: tries that failed by class, most first. ``zone``: whose hours and days these are.
    """

    span: Span
    zone: str
    steps: Sequence[Step]
    whole: Step
    errors: Mapping[str, int]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was done at all."""
        return not (self.whole.runs or self.whole.read or self.whole.failed)


def dashboard(
    db: ThreadSafeDatabaseManager, workspace: str, span: Span, zone_name: str, now: datetime | None = None
) -> Dashboard:
    """Looks back from now. A zone that this machine does not know is taken for UTC."""
    zone = zone_of(zone_name)
    begins = _begins(span, zone, now or datetime.now(UTC))
    steps, whole = [Step(begin) for begin in begins], Step(begins[0])
    marks = [begin.timestamp() for begin in begins]
    for begun in runs_begun(db, workspace, begins[0]):
        _count_runs((_at(steps, marks, begun.begin), whole), begun)
    errors: Counter[str] = Counter()
    for found in tries(db, workspace, begins[0]):
        for step in (_at(steps, marks, found.begin), whole):
            step.add(found)
        if found.error_class is not None:
            errors[found.error_class] += found.tries
    return Dashboard(span, zone.key, steps, whole, dict(errors.most_common()))


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name in the IANA's database; UTC where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(UTC_NAME)


def _count_runs(steps: Sequence[Step], begun: RunsBegun) -> None:
    for step in steps:
        step.runs[begun.status] += begun.runs


def _at(steps: Sequence[Step], marks: Sequence[float], begin: int) -> Step:
    """The step that a slice is in; the first one where the look back begins within the slice."""
    return steps[max(bisect_right(marks, begin) - 1, 0)]


def _begins(span: Span, zone: ZoneInfo, now: datetime) -> Sequence[datetime]:
    """When hours or days begin on the reader's clock: a day has 23 or 25 hours where clocks are put on or back."""
    here = now.astimezone(zone)
    if span.is_hourly:
        hour = here.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
        return [hour - timedelta(hours=back) for back in reversed(range(_HOURS))]
    return [_midnight(here.date() - timedelta(days=back), zone) for back in reversed(range(span.value))]


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
