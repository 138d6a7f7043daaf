"""Reads several small subtrees by one request: packs them, checks the answer for count and identity, grounds each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import from_json

from thresher.core.errors import AnswerTruncated, NotAnswered
from thresher.engine.batch import JointContext, shares
from thresher.engine.ports import AttemptContext
from thresher.engine.work import Claim, ItemSpec, Usage
from thresher.llm.cache import AnswerCache
from thresher.llm.client import ModelRequest, estimated_tokens
from thresher.llm.grounding import read_as_written, scalars, written
from thresher.llm.structured import Answer, AnswerLadder, Rung
from thresher.workflows.discovery.answers import ReadAnswer, RecordAnswer
from thresher.workflows.discovery.node_facts import NodeFact
from thresher.workflows.discovery.node_reader import Node, NodeReader, Seen
from thresher.workflows.discovery.prompts import NODE_FACTS_BATCH, NODE_RECORD_BATCH, load_prompt

Entry = Mapping[str, Any]  # of the answer, as the model wrote it

_LARGE = 0.25  # share of the budget over which a subtree goes alone
_PER_ANSWER, _PER_VALUE = 120, 60  # characters of an answer beside the subtree's own: for each subtree, for each value
_VALUES = (b"</", b"/>", b'="', b"='")  # what stands about once for each value

LEFT_OUT = "the answer to its batch left it out"
TWICE = "the answer to its batch has it twice, and not the same"
ANOTHERS = "the answer to its batch gave it the values of another subtree"
UNFIT = "its entry in the answer to its batch does not fit the schema"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much goes into one request. ``max_tokens``: of the prompt and the answers that are expected."""

    max_items: int = 20
    max_tokens: int = 8_192


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Nodes that go together, each with what would be asked about it alone; None where nothing would be.

    ``in_batch``: under which question the answer to each is kept that comes from a batch. ``together`` makes the one
    request about some of them, by their places.
    """

    members: Sequence[tuple[ItemSpec, ModelRequest | None]]
    in_batch: Callable[[int], ModelRequest]
    together: Callable[[Sequence[int]], ModelRequest]

    @classmethod
    def skipped(cls, spec: ItemSpec) -> PromptGroup:
        """Nothing is asked about it."""

        def nothing(_: object) -> NoReturn:
            raise LookupError(f"nothing is asked about {spec.key}")

        return cls([(spec, None)], nothing, nothing)


class BatchReader:
    """Reads groups of subtrees of one path: prompt and schema are the same for all of them.

    Used by many threads at once; keeps nothing of what it reads.
    """

    def __init__(self, reader: NodeReader, limits: BatchLimits) -> None:
        self._reader = reader
        self._limits = limits
        prompt = load_prompt(NODE_FACTS_BATCH if reader.record is None else NODE_RECORD_BATCH)
        self._system = reader.with_instructions(prompt)
        self._schema = reader.schema.of_several()
        ladder = reader.ladder
        self._cache = ladder if isinstance(ladder, AnswerCache) else None
        ladder = self._cache.ladder if self._cache is not None else ladder
        asking = ladder if isinstance(ladder, AnswerLadder) else AnswerLadder()
        self._ladder = asking.asking_once()  # what is missing is asked for again, not all of it

    # -- packing --------------------------------------------------------------------------------------------

    def packed(self, claims: Sequence[Claim]) -> list[list[Claim]]:
        """Cuts claims into groups within the limits; a large subtree is a group of its own."""
        fixed = estimated_tokens(len(self._system) + len(self._reader.context_lines))
        budget = _Size(self._limits.max_tokens - fixed, min(self._reader.bounds.max_tokens, self._limits.max_tokens))
        groups: list[list[Claim]] = []
        filling, filled = list[Claim](), _Size()
        for claim in claims:
            size = _Size.of(claim.payload or b"")
            if size.share_of(budget) > _LARGE or self._most(claim) < 2:
                groups.append([claim])
                continue
            if filling and (len(filling) >= self._most(claim) or (filled + size).share_of(budget) > 1):
                filling, filled = [], _Size()
            if not filling:
                groups.append(filling)
            filling.append(claim)
            filled += size
        return groups

    def _most(self, claim: Claim) -> int:
        """How many may go together with this one: who has failed in company is soon tried alone."""
        return self._limits.max_items >> (2 * claim.failures)

    def prompts(self, specs: Sequence[ItemSpec], nodes: Sequence[Node]) -> PromptGroup:
        """What would be asked about a group of planned items, whose nodes these are."""
        seen = [self._reader.see(node) for node in nodes]
        alone = [None if one.evidence.is_empty else self._reader.request(one) for one in seen]
        members = list(zip(specs, alone, strict=True))
        if len(seen) == 1:
            request = self._reader.request(seen[0])
            return PromptGroup(members, lambda _: request, lambda _: request)
        return PromptGroup(
            members,
            in_batch=lambda place: self._question(seen[place]),
            together=lambda places: self._request([seen[place] for place in places]),
        )

    # -- reading --------------------------------------------------------------------------------------------

    def read(self, nodes: Sequence[Node], contexts: Sequence[AttemptContext]) -> list[NodeFact | Exception]:
        """One fact for each subtree, or why there is none.

        Raises:
            RetryableError, PermanentError, FatalError: the model gave nothing for any of them (see ``core.errors``).
        """
        results: list[NodeFact | Exception] = [NotAnswered(LEFT_OUT)] * len(nodes)
        asked: dict[int, Seen] = {}
        for place, node in enumerate(nodes):
            try:
                seen = self._reader.see(node)
                known = self._reader.nothing_in(seen) if seen.evidence.is_empty else self._known(seen, contexts[place])
            except Exception as error:  # noqa: BLE001 # one that cannot be read does not stop the others
                results[place] = error
                continue
            if known is None:
                asked[place] = seen
            else:
                results[place] = known
        first = self._first_of_equals(asked)
        if first:
            found = self._ask([asked[place] for place in first], [contexts[place] for place in first])
            for place, result in zip(first, found, strict=True):
                results[place] = result
        for place in asked.keys() - set(first):  # their answer is known by now, or was left out for them all
            results[place] = self._known_by_now(asked[place], contexts[place])
        return results

    def _known_by_now(self, seen: Seen, context: AttemptContext) -> NodeFact | Exception:
        try:
            return self._known(seen, context) or NotAnswered(LEFT_OUT)
        except Exception as error:  # noqa: BLE001 # its class decides
            return error

    def _first_of_equals(self, asked: Mapping[int, Seen]) -> list[int]:
        """The places to ask about: where answers are kept, of equal subtrees the first one only."""
        if self._cache is None:
            return list(asked)
        return list({seen.sent: place for place, seen in reversed(list(asked.items()))}.values())[::-1]

    def _ask(self, seen: Sequence[Seen], contexts: Sequence[AttemptContext]) -> list[NodeFact | Exception]:
        weights, usage = [len(one.sent) for one in seen], Usage()
        joint = JointContext(contexts, weights)
        try:
            answer = self._ladder.ask(self._reader.client, self._request(seen), self._entries, joint)
            entries, usage = answer.value, answer.usage
        except AnswerTruncated:
            entries = _whole_entries(joint.raw_answer or "")
            if not entries:
                raise
        results: list[NodeFact | Exception] = []
        for place, part in enumerate(shares(usage, weights)):
            found = self._answer(_identity(place), entries)
            results.append(self._result(place, found, seen))
            if not isinstance(results[-1], Exception):
                self._keep(seen[place], entries, (place, part), contexts[place])
        return results

    def _request(self, seen: Sequence[Seen]) -> ModelRequest:
        subtrees = "\n".join(
            f'<subtree id="{_identity(place)}">\n{one.sent}\n</subtree>' for place, one in enumerate(seen)
        )
        return ModelRequest(
            system=self._system,
            user=f"{self._reader.context_lines}{subtrees}",
            subtree=subtrees,
            schema=self._schema,
            max_output_tokens=self._reader.bounds.max_tokens,
            temperature=self._reader.bounds.temperature,
            expected_tokens=sum(_Size.of(one.sent.encode("utf-8", "surrogatepass")).answer for one in seen),
        )

    def _entries(self, text: str) -> Sequence[Entry]:
        """The entries of an answer, whatever is in them.

        Raises:
            ValueError: it is no object with a list of them.
        """
        value = from_json(text) if self._reader.record is None else read_as_written(text)
        entries = value.get("answers") if isinstance(value, dict) else None
        if not isinstance(entries, list):
            raise ValueError('the answer has no list "answers"')  # noqa: TRY004 # what validators raise
        return [entry for entry in entries if isinstance(entry, dict)]

    # -- answers that are known -----------------------------------------------------------------------------

    def _known(self, seen: Seen, context: AttemptContext) -> NodeFact | None:
        """What an earlier answer says: to the question about this subtree alone, or within another batch."""
        if self._cache is None:
            return None
        for request in (self._reader.request(seen), self._question(seen)):
            answer = self._cache.recall(self._reader.client, request, self._reader.validated, context)
            if answer is not None:
                return self._reader.fact(seen, answer.value)
        return None

    def _keep(self, seen: Seen, entries: Sequence[Entry], which: tuple[int, Usage], context: AttemptContext) -> None:
        """Keeps an entry under its own subtree, whatever stood beside it in the request."""
        if self._cache is None:
            return
        mine = next(entry for entry in entries if str(entry.get("id")) == _identity(which[0]))
        text = json.dumps({name: value for name, value in mine.items() if name != "id"}, ensure_ascii=False)
        if self._reader.record is not None and not _reads_the_same(mine, text):
            return
        model = self._reader.client.model
        answer = Answer(self._reader.validated(text), Rung.STRICT, text, model, which[1])
        self._cache.keep(self._reader.client, self._question(seen), answer, context)

    def _question(self, seen: Seen) -> ModelRequest:
        """Stands for the question about one subtree within any batch: same prompt, same schema."""
        return replace(self._request([seen]), user=f"{self._reader.context_lines}{seen.sent}")

    # -- count and identity ---------------------------------------------------------------------------------

    def _answer(self, identity: str, entries: Sequence[Entry]) -> ReadAnswer | RecordAnswer | NotAnswered:
        """The answer for one subtree; entries with ids that nobody asked for are nobody's."""
        mine = [entry for entry in entries if str(entry.get("id")) == identity]
        if not mine:
            return NotAnswered(LEFT_OUT)
        if any(entry != mine[0] for entry in mine[1:]):
            return NotAnswered(TWICE)
        try:
            return self._reader.validated_value(mine[0])
        except ValueError as error:
            return NotAnswered(f"{UNFIT}: {_places(error)}")

    def _result(
        self, place: int, answer: ReadAnswer | RecordAnswer | NotAnswered, seen: Sequence[Seen]
    ) -> NodeFact | Exception:
        if isinstance(answer, NotAnswered):
            return answer
        fact = self._reader.fact(seen[place], answer)
        proved = fact.fields_grounded
        if proved < len(fact.fields):  # not all of it stands in its own subtree: does more of it stand in another?
            others = (self._reader.fact(other, answer) for other in seen if other is not seen[place])
            if any(other.fields_grounded > proved for other in others):
                return NotAnswered(ANOTHERS)
        return fact


@dataclass(frozen=True, slots=True)
class _Size:
    """Tokens of a subtree and of the answer to it, estimated; or of a budget: of both together, of answers."""

    whole: float = 0.0
    answer: float = 0.0

    @classmethod
    def of(cls, xml: bytes) -> _Size:
        values = sum(xml.count(mark) for mark in _VALUES)
        answer = estimated_tokens(_PER_ANSWER + _PER_VALUE * values + len(xml))
        return cls(estimated_tokens(len(xml)) + answer, answer)

    def __add__(self, other: _Size) -> _Size:
        return _Size(self.whole + other.whole, self.answer + other.answer)

    def share_of(self, budget: _Size) -> float:
        """Over 1 where it is more than the budget."""
        return max(self.whole / max(budget.whole, 1.0), self.answer / max(budget.answer, 1.0))


def _reads_the_same(entry: Entry, text: str) -> bool:
    """Whether every number of an entry is written again as the model wrote it."""
    again = read_as_written(text)
    rest = {name: value for name, value in entry.items() if name != "id"}
    return [written(value) for _, value in scalars(rest)] == [written(value) for _, value in scalars(again)]


def _identity(place: int) -> str:
    return f"n{place + 1}"


def _whole_entries(text: str) -> list[Entry]:
    """The entries of an answer that was cut, without the last one, which may be a part of itself."""
    start = text.find("{")
    with suppress(ValueError):
        value = from_json(text[max(start, 0) :], allow_partial=True)
        entries = value.get("answers") if isinstance(value, dict) else None
        if isinstance(entries, list):
            return [entry for entry in entries[:-1] if isinstance(entry, dict)]
    return []


def _places(error: ValueError) -> str:
    """Where an entry does not fit, without the values, which may be personal data."""
    if isinstance(error, ValidationError):
        return ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]})[:5])
    return "record"
