"""What goes wrong with a request, drawn from the seed, the subtree and how often it was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from thresher.testing.model_server.options import Faults, Options

SLOWER = 10.0  # times its latency takes a slow request
_RANGE = 2.0**32


class Fate(StrEnum):
    """What becomes of a request that was let in, the worst first."""

    HANG = "hang"
    DROP = "drop"
    HTML = "html"
    ERROR_500 = "error_500"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn for one request. ``cut`` is the share of the answer that is sent, 1 for all of it.

    ``order``: of an answer with several entries, which are sent, each under the id of which; None: all, as they are.
    """

    fate: Fate = Fate.ANSWER
    cut: float = 1.0
    fenced: bool = False
    prose: bool = False
    latency: float = 0.0  # seconds
    order: tuple[tuple[int, int], ...] | None = None
    slow: bool = False


class Lottery:
    """Draws by a keyed hash: the same seed, subtree and count of requests give the same draw in every run."""

    def __init__(self, options: Options) -> None:
        self._faults = options.faults
        self._latency = options.latency
        self._jitter = options.jitter if options.latency else 0.0
        self._seed = options.seed
        self._certain = None if self._faults.any or self._jitter else Draw(latency=options.latency)

    def draw(self, subtree: str, count: int, entries: int = 1) -> Draw:
        """What becomes of the ``count``-th request for a subtree (from 1), or for several: ``entries``."""
        if self._certain is not None:
            return self._certain
        chances = self._chances(f"{subtree}:{count}")
        faults = self._faults
        is_slow = faults.slow > 0 and self.chance(f"slow:{subtree}:{count}") < faults.slow
        return Draw(
            fate=_fate(faults, chances),
            cut=0.2 + 0.6 * chances[4] if chances[5] < faults.truncate else 1.0,
            fenced=chances[6] < faults.fence,
            prose=chances[7] < faults.prose,
            latency=self._latency * self._factor(chances[8], chances[9]) * (SLOWER if is_slow else 1.0),
            slow=is_slow,
            order=self._order(f"{subtree}:{count}", entries) if entries > 1 else None,
        )

    def _order(self, what: str, entries: int) -> tuple[tuple[int, int], ...] | None:
        """Two entries under each other's id, then some left out; None where nothing of that was drawn."""
        under = list(range(entries))
        if self.chance(f"swap:{what}") < self._faults.swap:
            one = int(self.chance(f"swapped:{what}") * (entries - 1))
            under[one], under[one + 1] = under[one + 1], under[one]
        sent = [place for place in range(entries) if self.chance(f"forget:{what}:{place}") >= self._faults.forget]
        is_whole = len(sent) == entries and under == sorted(under)
        return None if is_whole else tuple((place, under[place]) for place in sent)

    def chance(self, what: str) -> float:
        """One number from 0 to below 1 for whatever this names."""
        return self._chances(what)[0]

    def _chances(self, what: str) -> list[float]:
        digest = blake2b(f"{self._seed}:{what}".encode(), digest_size=40).digest()
        return [int.from_bytes(digest[start : start + 4]) / _RANGE for start in range(0, 40, 4)]

    def _factor(self, one: float, other: float) -> float:
        """Lognormal with mean 1: exp(sigma * z - sigma^2 / 2), z normal by Box and Muller."""
        if not self._jitter:
            return 1.0
        normal = math.sqrt(-2.0 * math.log(1.0 - one)) * math.cos(2.0 * math.pi * other)
        return math.exp(self._jitter * normal - self._jitter**2 / 2.0)


def _fate(faults: Faults, chances: list[float]) -> Fate:
    shares = ((Fate.HANG, faults.hang), (Fate.DROP, faults.drop), (Fate.HTML, faults.html))
    for (fate, share), chance in zip((*shares, (Fate.ERROR_500, faults.error_500)), chances, strict=False):
        if chance < share:
            return fate
    return Fate.ANSWER
