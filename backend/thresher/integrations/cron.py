"""Cron expressions in a time zone: when they fire, as instants.

They are read as Debian's cron reads them. A firing at a local time that is skipped when clocks go forward happens at
the first moment after the gap; one at a local time that comes twice when clocks go back happens the first time only.
Expressions whose minute or hour begins with a star, and those with six fields (seconds first), go by elapsed time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from thresher.core.errors import BadInput

LONGEST = 200  # characters


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """An expression in a zone; ``parse`` makes one of what somebody has typed."""

    expression: str
    zone: ZoneInfo

    @classmethod
    def parse(cls, expression: str, time_zone: str) -> CronSchedule:
        """Reads an expression and the name of a zone (IANA).

        Raises:
            BadInput: says which of them is none, or that it would never fire.
        """
        if len(expression) > LONGEST:
            raise BadInput(f"A cron expression has {LONGEST} characters at most.")
        schedule = cls(" ".join(expression.split()), _zone(time_zone))
        try:
            fires = schedule.after(datetime.now(UTC)) is not None
        except CronSimError as error:
            raise BadInput(
                f"{expression!r} is no cron expression: {str(error).lower()}. It has five fields (minute, "
                "hour, day of the month, month, day of the week), such as 30 6 * * MON-FRI; or six, seconds first."
            ) from error
        if not fires:
            raise BadInput(f"{expression!r} never fires: there is no such day.")
        return schedule

    def after(self, moment: datetime) -> datetime | None:
        """The first firing after a moment, in UTC; None where there is none within 50 years."""
        return next(self.firings(moment), None)

    def next_firings(self, moment: datetime, count: int) -> list[datetime]:
        """The next ``count`` firings after a moment."""
        return list(islice(self.firings(moment), count))

    def firings(self, moment: datetime) -> Iterator[datetime]:
        """All firings after a moment, in UTC and in order, each instant once."""
        last = moment.astimezone(UTC)
        for local in CronSim(self.expression, moment.astimezone(self.zone)):
            firing = local.astimezone(UTC)
            if firing > last:  # not so in the hour that comes twice
                last = firing
                yield firing


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise BadInput(f"{name[:LONGEST]!r} is no time zone: take a name such as UTC or Europe/Berlin.") from error
