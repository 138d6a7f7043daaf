"""How fast a run went and goes, from its rows: whoever works on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.tables import ItemRow

SLICES = 90  # of a throughput, about


@dataclass(frozen=True, slots=True)
class Throughput:
    """Items that were finished in each slice of time; ``begin`` in whole seconds since 1970, ``width`` in seconds."""

    begin: int
    width: int
    counts: Sequence[int]

    def lately(self, now: datetime, seconds: int) -> float:
        """Items per second over the last ``seconds``, or the last slice where slices are longer; 0 where none was."""
        slices = max(seconds // self.width, 1)
        last = int(now.timestamp() - self.begin) // self.width
        found = self.counts[max(last - slices, 0) : last + 1]
        since = max(last - slices, 0) * self.width + self.begin
        return sum(found) / max(now.timestamp() - since, 1.0)


def throughput(db: ThreadSafeDatabaseManager, run_id: str) -> Throughput | None:
    """The throughput of a run from its first finished item to the last one; None where none is finished."""
    of_run = (ItemRow.run_id == run_id) & ItemRow.finished_at.is_not(None)
    with db.read() as session:
        first, last = session.execute(
            sa.select(sa.func.min(ItemRow.finished_at), sa.func.max(ItemRow.finished_at)).where(of_run)
        ).one()
        if first is None or last is None:
            return None
        begin, end = int(first.timestamp()), int(last.timestamp())
        width = max(math.ceil((end - begin + 1) / SLICES), 1)
        second = sa.cast(sa.extract("epoch", ItemRow.finished_at), sa.BigInteger)
        number = ((second - begin) // width).label("slice")
        found = session.execute(sa.select(number, sa.func.count()).where(of_run).group_by("slice")).all()
    counts = [0] * ((end - begin) // width + 1)
    for place, count in found:
        counts[min(max(int(place), 0), len(counts) - 1)] += count  # databases round fractions of seconds differently
    return Throughput(begin, width, counts)
