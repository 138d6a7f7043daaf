"""How fast a resource may be asked: what its replies say of its limits, or what its refusals teach.

Times are seconds of one monotonic clock, given by the caller: nothing here waits, locks or reads a clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

_MARGIN = 0.1  # seconds of refill, or share of the limit if less, that is left unspent: clocks and networks jitter
_CATCH_UP = 0.1  # seconds of a set rate that may be made up for at once, where a thread woke too late
_GAIN = 0.2  # of a difference between mirror and reply that is corrected at once
_LATER = 0.03  # of the time between two requests, by which a limit without room for a margin is kept longer, ...
_LATEST = 0.2  # ... each time that it refuses, up to this
_WINDOW_VERDICT_AFTER = 2.0  # seconds that the end of a window would have to move if it were a bucket
_RETURNS_KEPT = 1024
_NEARLY = 1e-9  # of a limit: what floating-point numbers lose
_USUAL_WINDOW = 60.0  # seconds, where a server names a limit without a time
_MANY = 8  # units that must be missing before what is missing and the time it takes tell the rate well


class Mark(NamedTuple):
    """What an allowance was when something was taken from it: compared with what the reply says of that moment."""

    at: float
    level: float
    corrected: float
    spent: float
    number: int
    returned: int


class Allowance:
    """What a server still lets through of one quantity (requests, tokens), mirrored from the headers of its replies.

    Two kinds of limit are in use. A bucket of size ``limit`` refills all the time: ``reset`` is then the time until it
    is full, so that ``rate = (limit - remaining) / reset``, and every unit taken moves that moment by ``1 / rate``. A
    window is whole again at ``reset``, however much is taken. Which of them a server has is told by whether that
    moment moves. A reply speaks of the moment at which its own request was counted, while others have been sent
    since: so it is compared with the mirror as it was then, and the difference corrects the mirror as it is now.
    Differences also show what other processes take from the same limit.

    """

    def __init__(self) -> None:
        self.limit: float | None = None
        self._rate: float | None = None
        self._margin = _MARGIN
        self._level = 0.0
        self._at = 0.0
        self._corrected = 0.0  # sum of all corrections
        self._spent = 0.0  # sum of all that was taken and not given back
        self._taken = 0  # how often
        self._returned: deque[tuple[int, float]] = deque(maxlen=_RETURNS_KEPT)  # number of the taking, units given back
        self._returns = 0  # how many there ever were
        self._reset_at = 0.0
        self._late = 0.0
        self._refused_at = -1.0
        self._whole_since = 0.0
        self._anchor: tuple[float, float, float] | None = None  # a moment of being whole, what was spent then, when
        self._verdict = 0  # above 0: a bucket, below: a window; the more sure the further

    @classmethod
    def of_rate(cls, per_second: float, now: float, first: float = 1.0) -> Allowance:
        """What a person has set, kept evenly: n units take ``(n - 1) / per_second`` seconds; a late one is made up for.

        ``first`` units may be taken at once. Who takes more than come back in a moment waits until those before have.
        """
        allowance = cls()
        allowance.limit = 1.0 + per_second * _CATCH_UP
        allowance._rate = per_second
        allowance._margin = 0.0
        allowance._level = min(first, allowance.limit)
        allowance._at = now
        return allowance

    @property
    def is_window(self) -> bool:
        """Whether the whole limit comes back at one moment."""
        return self._verdict < 0

    @property
    def rate(self) -> float:
        """Units per second that come back; 0 where the limit is unknown."""
        if self.limit is None:
            return 0.0
        return self._rate or self.limit / _USUAL_WINDOW

    def level(self, now: float) -> float:
        """What is left, the margin included; may be below 0 where requests are counted that were sent before."""
        self._refill(now)
        return self._level

    def wait(self, now: float, cost: float) -> float:
        """Seconds until ``cost`` units may be taken; more than the whole limit may be taken when it is whole."""
        if self.limit is None:
            return 0.0
        self._refill(now)
        margin = min(self.limit * self._margin, max(1.0, self.rate * self._margin)) if self._margin else 0.0
        missing = cost + margin - self._level
        if missing <= _NEARLY * max(self.limit, 1.0):
            return 0.0
        if self.is_window:
            return max(self._reset_at - now, 0.001) if self._level < cost else 0.0
        if cost + margin <= self.limit:
            return missing / self.rate
        return max(self._whole_at(now) + self._late / self.rate - now, 0.0)

    def share_left(self, now: float) -> float:
        """What is left of the limit, 0 to 1."""
        return min(max(self.level(now) / self.limit, 0.0), 1.0) if self.limit else 1.0

    def until_reset(self, now: float) -> float:
        """Seconds until a window is whole again, as the last reply said; 0 for buckets."""
        return max(self._reset_at - now, 0.0) if self.is_window else 0.0

    def take(self, now: float, cost: float) -> Mark:
        """Takes ``cost`` units."""
        if self.limit is None:
            self._at = max(self._at, now)
        else:
            self._refill(now)
        self._level -= cost
        self._spent += cost
        self._taken += 1
        return Mark(now, self._level, self._corrected, self._spent, self._taken, self._returns)

    def give_back(self, units: float, mark: Mark) -> None:
        """A request took ``units`` less than was thought (more, where below 0)."""
        self._level += units
        self._spent -= units
        self._returned.append((mark.number, units))
        self._returns += 1

    def refused(self, mark: Mark, *, cost: float = 1.0) -> None:
        """The server has refused a request: nothing was left for it, and it took nothing."""
        self.give_back(cost, mark)
        if self.limit is None:
            return
        if mark.at > self._refused_at + 1.0:  # once for all that are refused together
            self._late = min(self._late + _LATER, _LATEST)
        self._refused_at = max(self._refused_at, mark.at)
        difference = -(self._level_at(mark) + cost)
        self._correct(difference if difference < 0 else _GAIN * difference)

    def learn(self, mark: Mark, limit: float, remaining: float, reset: float | None) -> None:
        """What a reply says of the moment at which its request was counted.

        Requests that are sent together are counted in another order than they were sent, so that single replies say
        too much or too little: each corrects a part of the difference only.
        """
        is_new = self.limit is None
        self.limit = limit
        if reset is not None:
            self._learn_time(mark, max(limit - remaining, 0.0), reset)
        difference = remaining - self._level_at(mark)
        if is_new or difference > 0 or difference <= -1:  # less than one below: the server rounds down
            self._correct(difference if is_new else _GAIN * difference)

    def _level_at(self, mark: Mark) -> float:
        """What the mirror now thinks the level was, when something was taken for ``mark``."""
        level = mark.level + self._corrected - mark.corrected
        later = min(self._returns - mark.returned, len(self._returned))
        if later:
            level += sum(units for number, units in islice(reversed(self._returned), later) if number < mark.number)
        return level

    def _correct(self, units: float) -> None:
        self._level += units
        self._corrected += units

    def _learn_time(self, mark: Mark, deficit: float, reset: float) -> None:
        reset_at = mark.at + reset
        if reset > 0 and deficit >= 1:
            rate = (deficit - 0.5 if deficit >= _MANY else deficit) / reset  # what remains is rounded down
            self._judge(mark, reset_at, rate)
            if self._rate is None or (deficit >= _MANY and not 0.75 < rate / self._rate < 1.33):
                self._rate = rate  # first seen, or changed
                self._anchor = None
            self._anchor = self._anchor or (reset_at, mark.spent, mark.at)
        self._reset_at = max(self._reset_at, reset_at) if self.is_window else reset_at

    def _judge(self, mark: Mark, reset_at: float, rate: float) -> None:
        """Compares how far the moment of being whole has moved with how far it would have if this were a bucket."""
        if self._anchor is None:
            return
        was, spent, since = self._anchor
        taken = mark.spent - spent
        expected = taken / max(rate, self._rate or rate)
        if expected < _WINDOW_VERDICT_AFTER:
            return
        moved = reset_at - was
        if moved < 0.25 * expected:
            self._verdict = max(self._verdict - 1, -3)
        elif moved < 4 * expected:
            self._verdict = min(self._verdict + 1, 3)
            if self._whole_since < since:  # else it stood still for a while, and not only what was taken moved it
                self._rate = taken / moved  # exact, however coarse the numbers are
        self._anchor = None

    def _refill(self, now: float) -> None:
        if self.limit is not None and self._level < self.limit:
            if not self.is_window:
                whole_at = self._at + (self.limit - self._level) / self.rate
                self._level = min(self.limit, self._level + max(now - self._at, 0.0) * self.rate)
                self._whole_since = min(whole_at, now)
            elif now >= self._reset_at > self._at:
                self._level = self.limit
        self._at = max(self._at, now)

    def _whole_at(self, now: float) -> float:
        """When the bucket is, or was, full."""
        if self.limit is None or self._level >= self.limit:
            return self._whole_since
        return now + (self.limit - self._level) / self.rate


_FREE_AT_FIRST = 10  # requests that may be sent at once to a server that nothing is known of
_OPENING_RATE = 200.0  # requests per second at which the rest of the workers follow
_OPENING_DOUBLES = 0.1  # seconds in which that rate doubles
_OPENING = 1.0  # seconds without a refusal, after which there seems to be no limit
_SEARCH_DOUBLES = 0.5  # seconds in which the rate doubles while the limit is not known
_BELOW = 0.97  # of the estimated limit
_HOLD = 4.0  # seconds at that rate before looking whether there is more
_PROBE = 0.004  # per second cubed: 1.25 times the rate after 4 s of probing, 1.9 times after 6 s
_FROM_SEARCH = 0.75  # of the rate at which a search was refused
_GENTLY = 0.9  # of the present rate, where refusals follow so quickly that nothing can be told from them
_SHORTEST = 0.5  # seconds between two refusals that tell something
_TRUST = 0.7  # of the present rate is not given up at one refusal
_BASELINE = 1.5  # seconds of accepted requests that an estimate should rest on, where there were so many
_LOWEST_RATE = 0.2  # requests per second, however often the server refuses
_KEPT = 4096  # moments of sending
_MEASURED = 5.0  # seconds over which the rate of sending is measured


@dataclass(slots=True)
class _Empty:
    """A moment at which the server's bucket was empty, and how many requests it had accepted up to then.

    Those that were under way at that moment are thought to be accepted until they turn out not to be.
    """

    at: float
    accepted: int


class Pace:
    """Finds the rate of a server that says nothing of its limits but refuses what goes over them.

    At a refusal the server's bucket is empty. Between two such moments it accepted exactly what came back in
    between, whatever its size: ``rate = accepted / time between``, which needs no guess at the burst and errs by one
    request at most. Then it is asked at ``_BELOW`` of that rate for ``_HOLD`` seconds, and after that ever faster, by a
    cubic (as CUBIC does after its plateau, RFC 9438), until it refuses again: a few requests in a hundred, by which
    a limit that has changed is found. Where it refuses everything the rate is halved each time.
    """

    def __init__(self, now: float) -> None:
        self._began = now
        self._base: float | None = None  # requests per second at the last cut; None while no limit is known
        self._is_search = False
        self._cut_at = now
        self._next_at = now
        self._sent: deque[float] = deque(maxlen=_KEPT)
        self._total_sent = 0
        self._total_refused = 0
        self._empties: deque[_Empty] = deque(maxlen=64)

    @property
    def is_limited(self) -> bool:
        """Whether the server has refused anything, so that a rate is kept."""
        return self._base is not None

    def rate(self, now: float) -> float:
        """Requests per second at this moment; infinite where nobody has refused."""
        since = now - self._cut_at
        if self._base is None:
            since = now - self._began
            return float("inf") if since > _OPENING else _OPENING_RATE * 2.0 ** (since / _OPENING_DOUBLES)
        if self._is_search:
            return float(self._base * 2.0 ** min(since / _SEARCH_DOUBLES, 12.0))
        return self._base * (1.0 + _PROBE * max(since - _HOLD, 0.0) ** 3)

    def sent_per_second(self, now: float) -> float:
        """How many requests were sent of late, measured."""
        recent = self._sent_after(now - _MEASURED)
        first = self._sent[0] if recent == _KEPT else max(now - _MEASURED, self._began)
        return recent / max(now - first, 1.0)

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent."""
        return max(self._next_at - now, 0.0)

    def sent(self, now: float) -> None:
        """A request is sent."""
        self._total_sent += 1
        self._sent.append(now)
        if self._base is None:
            if self._total_sent < _FREE_AT_FIRST:
                return
            if now - self._began > _OPENING:
                self._next_at = now
                return
        rate = self.rate(now)
        gap = 1.0 / rate
        self._next_at = max(self._next_at, now - gap) + gap if self._base is not None else now + gap

    def refused(self, now: float, sent_at: float) -> None:
        """A request that was sent at ``sent_at`` was refused for its rate."""
        self._total_refused += 1
        for moment in self._empties:
            moment.accepted -= sent_at <= moment.at
        if self._base is not None and sent_at <= self._cut_at:
            return  # sent before the rate was lowered for this
        accepted = self._total_sent - self._sent_after(sent_at) - self._total_refused
        was_accepted = not self._empties or accepted > self._empties[-1].accepted
        self._base = max(self._cut(now, _Empty(sent_at, accepted), was_accepted=was_accepted), _LOWEST_RATE)
        self._cut_at = now
        self._next_at = now + 1.0 / self._base

    def _cut(self, now: float, moment: _Empty, *, was_accepted: bool) -> float:
        """The rate after a refusal."""
        if self._base is None or not was_accepted:
            self._is_search = True
            base = self._first_guess(moment) if self._base is None else self._base / 2
            self._empties.append(moment)
            return base
        if self._is_search:  # the limit lies below this rate; how far below, the next refusals will tell
            base = _FROM_SEARCH * self.rate(now)
            self._is_search = False
            self._empties.clear()
        else:
            base = self._estimate(now, moment)
        self._empties.append(moment)
        return base

    def _first_guess(self, moment: _Empty) -> float:
        if moment.at - self._began > _OPENING:
            return self._recent(moment.at)
        return max(moment.accepted / max(moment.at - self._began, 1.0), 1.0)

    def _estimate(self, now: float, moment: _Empty) -> float:
        """The server's rate, from the last moment of emptiness that is long enough ago.

        Where the bucket was full in between, less was accepted than came back: hence not too far below the present.
        """
        known = [old for old in self._empties if moment.at - old.at >= _BASELINE]
        old = known[-1] if known else self._empties[0]
        seconds, present = moment.at - old.at, self.rate(now)
        if seconds < _SHORTEST:
            return present * _GENTLY
        rate = (moment.accepted - old.accepted) / seconds
        if seconds > 2 * _HOLD:
            rate = min(rate, self._recent(moment.at))
        return max(rate, _TRUST * present) * _BELOW

    def _recent(self, at: float) -> float:
        """Requests sent per second in the last second or two."""
        count = sum(1 for moment in self._sent if at - 2.0 <= moment <= at)
        return max(count / min(max(at - self._began, 0.1), 2.0), 1.0)

    def _sent_after(self, moment: float) -> int:
        count = 0
        for at in reversed(self._sent):
            if at <= moment:
                break
            count += 1
        return count
