"""What the server has seen: totals, and for each subtree what was asked, answered and paid."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from thresher.testing.model_server.answers import Answer
from thresher.testing.model_server.lies import Lie


@dataclass(slots=True)
class SubtreeRecord:
    """What was asked about one subtree.

    ``requests`` counts all that came with a valid key; ``paid`` those that a provider would bill (let in and not
    refused with an error status, whether or not the answer arrived); ``answered`` whole answers sent with status 200.
    """

    excerpt: str
    requests: int = 0
    rate_limited: int = 0
    paid: int = 0
    answered: int = 0
    lies: Sequence[Lie] = field(default=(), repr=False)


class Statistics:
    """Counts since the start or the last reset. ``totals`` has the names that ``GET /stats`` shows."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.subtrees: dict[str, SubtreeRecord] = {}
        self.concurrency = 0
        self.max_concurrency = 0
        self.connections = 0
        self.max_connections = 0

    def reset(self) -> None:
        """Forgets everything but what is going on."""
        self.totals.clear()
        self.subtrees.clear()
        self.max_concurrency = self.concurrency
        self.max_connections = self.connections

    def arrived(self, answer: Answer) -> Sequence[SubtreeRecord]:
        """A request has come; returns the records of its subtrees with this request counted, on each of them."""
        records = []
        for part in answer.parts:
            record = self.subtrees.get(part.key)
            if record is None:
                record = self.subtrees[part.key] = SubtreeRecord(part.excerpt)
            record.requests += 1
            records.append(record)
        return records

    def paid(self, records: Sequence[SubtreeRecord], answer: Answer) -> None:
        """A request was let in that costs its prompt."""
        for record in records:
            record.paid += 1
        self.totals["paid"] += 1
        self.totals["prompt_tokens"] += answer.prompt_tokens

    def answered(self, records: Sequence[SubtreeRecord], answer: Answer, sent: Sequence[int]) -> None:
        """A whole answer was sent; ``sent`` are the places of the subtrees of which it has an entry."""
        for place in sent:
            records[place].answered += 1
            records[place].lies = answer.parts[place].lies
        self.totals["answered"] += 1
        self.totals["completion_tokens"] += answer.completion_tokens

    def entered(self) -> None:
        """A request is being worked on."""
        self.concurrency += 1
        self.max_concurrency = max(self.max_concurrency, self.concurrency)

    def left(self) -> None:
        """A request is no longer worked on."""
        self.concurrency -= 1

    def connected(self) -> None:
        """A client has connected."""
        self.connections += 1
        self.max_connections = max(self.max_connections, self.connections)

    def disconnected(self) -> None:
        """A client has gone."""
        self.connections -= 1

    def report(self) -> dict[str, Any]:
        """What ``GET /stats`` answers. ``cpu_seconds`` is the time that this process has used since it started."""
        lies = [
            {"subtree": key, "excerpt": record.excerpt, **asdict(lie)}
            for key, record in self.subtrees.items()
            for lie in record.lies
        ]
        return {
            **{name: self.totals[name] for name in _TOTALS},
            "concurrency": self.concurrency,
            "max_concurrency": self.max_concurrency,
            "connections": self.connections,
            "max_connections": self.max_connections,
            "cpu_seconds": time.process_time(),
            "subtrees": {key: _shown(record) for key, record in self.subtrees.items()},
            "lies": lies,
        }


_TOTALS = (
    "requests",
    "answered",
    "paid",
    "rate_limited",
    "rate_limited_late",
    "too_early",
    "abandoned",
    "unauthorized",
    "bad_requests",
    "failed_matching",
    "error_500",
    "drop",
    "hang",
    "html",
    "truncate",
    "fence",
    "prose",
    "forget",
    "swap",
    "slow",
    "prompt_tokens",
    "completion_tokens",
)


def _shown(record: SubtreeRecord) -> dict[str, Any]:
    shown = asdict(record)
    shown["lies"] = len(record.lies)
    return shown
