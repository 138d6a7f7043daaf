"""What a discovery would take, before anything is sent: its prompts are built, measured and thrown away.

Tokens are estimated from bytes: a token stands for about 3.5 bytes of a prompt (4.5 to 2.5). An answer is taken to be
as long as the structural reading of the same subtree would be (half to double). Where the model has answered in
earlier runs, what it took then is used instead: tokens per byte of a prompt (a tenth more or less), tokens of an answer
per node (a quarter more or less, and far enough to take in the structural reading).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from thresher.core.errors import PermanentLLMError
from thresher.engine.work import ItemSpec
from thresher.llm.client import ModelRequest
from thresher.llm.prices import Price
from thresher.llm.providers.structural import StructuralClient
from thresher.llm.spending import prompt_bytes
from thresher.persistence.repositories.costs import Experience
from thresher.workflows.discovery.batch_reader import PromptGroup

BYTES_PER_TOKEN = (4.5, 3.5, 2.5)  # few tokens, as expected, many
ANSWER_FACTORS = (0.5, 1.0, 2.0)  # of the structural reading
LEARNED_PROMPT_FACTORS = (0.9, 1.0, 1.1)
LEARNED_FACTORS = (0.75, 1.0, 1.25)  # of answers and times
LARGEST_SHOWN = 5
REMEMBERED_KEYS = 250_000  # of prompts, to see which are equal; further ones are taken to be new
_COUNTED = ("nodes", "skipped", "silent", "cached", "repeated", "requests", "prompt_bytes", "answer_bytes")

Prompts = Iterable[tuple[ItemSpec, ModelRequest | None]]


@dataclass(frozen=True, slots=True)
class KnownAnswers:
    """The cache, as far as a dry run asks it: the key of a question, and whether its answer is kept."""

    key_of: Callable[[ModelRequest], str]
    holds: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class PlanSize:
    """The nodes of a plan and the bytes of what would be asked; answers as long as the structural reading.

    ``silent`` nodes hold nothing to read, ``cached`` ones are answered by the cache, ``repeated`` ones by the answer
    to an equal node. ``requests``: fewer than nodes that are ``asked`` about where several go together.
    ``largest``: bytes of a prompt about a node alone, and its key.
    """

    nodes: int = 0
    skipped: int = 0
    silent: int = 0
    cached: int = 0
    repeated: int = 0
    requests: int = 0
    prompt_bytes: int = 0
    answer_bytes: int = 0
    largest: tuple[tuple[int, str], ...] = ()

    @property
    def asked(self) -> int:
        """Nodes for which the model would be asked."""
        return self.nodes - self.skipped - self.silent - self.cached - self.repeated


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate and what it lies between."""

    low: float
    expected: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def times(self, factor: float) -> Range:
        """All three times a factor."""
        return Range(self.low * factor, self.expected * factor, self.high * factor)

    def at_least(self, bound: float) -> Range:
        """None of the three below a bound."""
        return Range(max(self.low, bound), max(self.expected, bound), max(self.high, bound))

    def to_dict(self, digits: int | None = None) -> dict[str, float]:
        """As JSON-able numbers, rounded."""
        return {name: round(getattr(self, name), digits) for name in ("low", "expected", "high")}


@dataclass(frozen=True, slots=True)
class Pace:
    """What bounds the speed: requests at once, and limits per minute where they are set."""

    workers: int
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would take. ``cost_usd`` None: no price; ``seconds`` None: no earlier run and no limit to tell by."""

    size: PlanSize
    requests: Range
    prompt_tokens: Range
    completion_tokens: Range
    cost_usd: Range | None
    seconds: Range | None
    experience: Experience | None

    def to_dict(self) -> dict[str, Any]:
        """JSON for people and programs."""
        plan = self.size
        return {
            "nodes_total": plan.nodes,
            "nodes_skipped": plan.skipped,
            "nodes_without_text": plan.silent,
            "nodes_cached": plan.cached,
            "nodes_repeated": plan.repeated,
            "nodes_asked": plan.asked,
            "requests": self.requests.to_dict(),
            "prompt_tokens": self.prompt_tokens.to_dict(),
            "completion_tokens": self.completion_tokens.to_dict(),
            "cost_usd": None if self.cost_usd is None else self.cost_usd.to_dict(6),
            "seconds": None if self.seconds is None else self.seconds.to_dict(1),
            "learned_from_nodes": 0 if self.experience is None else self.experience.nodes,
            "largest": [{"node": key, "prompt_bytes": count} for count, key in plan.largest],
        }


@dataclass(slots=True)
class _Measuring:
    """Counts prompts one by one, in bounded memory."""

    known: KnownAnswers | None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    largest: list[tuple[int, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    reader: StructuralClient = field(default_factory=StructuralClient)

    def add(self, spec: ItemSpec, request: ModelRequest | None) -> None:
        if self._is_asked(spec, request, request) and request is not None:
            self._send(request)

    def add_group(self, group: PromptGroup) -> None:
        asked = [
            place
            for place, (spec, request) in enumerate(group.members)
            if self._is_asked(spec, request, None if request is None else group.in_batch(place))
        ]
        if asked:
            self._send(group.together(asked))

    def _send(self, request: ModelRequest) -> None:
        self.counts["requests"] += 1
        self.counts["prompt_bytes"] += prompt_bytes(request)

    def _is_asked(self, spec: ItemSpec, request: ModelRequest | None, kept_as: ModelRequest | None) -> bool:
        """Counts a node, and what is answered about it if it is asked about."""
        self.counts["nodes"] += 1
        if spec.skip_reason is not None or request is None or kept_as is None:
            self.counts["silent" if spec.skip_reason is None else "skipped"] += 1
            return False
        kind = self._known_as(request, kept_as)
        if kind is not None:
            self.counts[kind] += 1
            return False
        self.counts["answer_bytes"] += self._answer_bytes(request)
        heapq.heappush(self.largest, (prompt_bytes(request), spec.key))
        if len(self.largest) > LARGEST_SHOWN:
            heapq.heappop(self.largest)
        return True

    def _known_as(self, request: ModelRequest, kept_as: ModelRequest) -> str | None:
        """Why the model is not asked about a node; None where it is."""
        if self.known is None:
            return None
        key = self.known.key_of(kept_as)
        if key in self.seen:
            return "repeated"
        if len(self.seen) < REMEMBERED_KEYS:
            self.seen.add(key)
        keys = [key] if kept_as is request else [self.known.key_of(request), key]
        return "cached" if any(self.known.holds(each) for each in keys) else None

    @property
    def size(self) -> PlanSize:
        values: dict[str, Any] = {**self.counts, "largest": tuple(sorted(self.largest, reverse=True))}
        return PlanSize(**values)

    def _answer_bytes(self, request: ModelRequest) -> int:
        with suppress(PermanentLLMError):
            size = len(self.reader.complete(request).text.encode())
            return min(size, round(request.max_output_tokens * BYTES_PER_TOKEN[1]))
        return 0


def measure(prompts: Prompts, known: KnownAnswers | None = None) -> PlanSize:
    """Goes through the prompts of a plan. Without ``known`` equal nodes are asked about one by one."""
    measuring = _Measuring(known)
    for spec, request in prompts:
        measuring.add(spec, request)
    return measuring.size


def measure_groups(groups: Iterable[PromptGroup], known: KnownAnswers | None = None) -> PlanSize:
    """The same for nodes that are asked about together."""
    measuring = _Measuring(known)
    for group in groups:
        measuring.add_group(group)
    return measuring.size


def estimate(size: PlanSize, experience: Experience | None, price: Price | None, pace: Pace) -> Estimate:
    """What a plan of this size would take."""
    prompt, answers = _prompt_tokens(size, experience), _answer_tokens(size, experience)
    requests = _requests(size, experience)
    cost = None
    if price is not None:
        cost = prompt.times(price.input / 1_000_000) + answers.times(price.output / 1_000_000)
    seconds = _seconds(size, experience, pace, (requests.expected, (prompt + answers).expected))
    return Estimate(size, requests, prompt, answers, cost, seconds, experience)


def _scaled(amount: float, factors: Iterable[float]) -> Range:
    return Range(*(amount * factor for factor in factors))


def _requests(size: PlanSize, experience: Experience | None) -> Range:
    """Those of the plan, and what earlier runs needed beyond one for each node."""
    per_node = max(experience.requests_per_node, 1.0) if experience is not None else 1.0
    return Range(size.requests, round(size.requests * per_node), round(size.requests * (2 * per_node - 1)))


def _prompt_tokens(size: PlanSize, experience: Experience | None) -> Range:
    if experience is not None:
        return _scaled(size.prompt_bytes * experience.tokens_per_byte, LEARNED_PROMPT_FACTORS)
    return _scaled(size.prompt_bytes, (1 / bytes_per_token for bytes_per_token in BYTES_PER_TOKEN))


def _answer_tokens(size: PlanSize, experience: Experience | None) -> Range:
    structural = size.answer_bytes / BYTES_PER_TOKEN[1]
    if experience is None:
        return _scaled(structural, ANSWER_FACTORS)
    learned = _scaled(size.asked * experience.answer_tokens_per_node, LEARNED_FACTORS)
    return Range(min(learned.low, structural), learned.expected, max(learned.high, structural))


def _seconds(size: PlanSize, experience: Experience | None, pace: Pace, taken: tuple[float, float]) -> Range | None:
    """The longer of what the nodes take side by side and what the limits let through."""
    requests, tokens = taken
    limits = list(_minutes(requests, tokens, pace))
    at_limit = 60 * max(limits, default=0.0)
    if experience is None:
        return Range(at_limit, at_limit, at_limit) if limits else None
    side_by_side = size.asked * experience.seconds_per_node / max(min(pace.workers, size.requests), 1)
    return _scaled(side_by_side, LEARNED_FACTORS).at_least(at_limit)


def _minutes(requests: float, tokens: float, pace: Pace) -> Iterator[float]:
    if pace.requests_per_minute is not None:
        yield requests / pace.requests_per_minute
    if pace.tokens_per_minute is not None:
        yield tokens / pace.tokens_per_minute
