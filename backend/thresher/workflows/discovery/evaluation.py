"""How good a run's values are, measured against gold: values that a person has checked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

_INDEX_IN_POINTER = re.compile(r"/\d+(?=/|$)")


class GoldValue(NamedTuple):
    """A value as it should be found. ``path`` is only shown, None where the gold says none."""

    name: str
    value: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class GoldNode:
    """All values that should be found in one node. ``section_path`` is written as in the gold."""

    section_path: str
    values: Sequence[GoldValue]


Gold = Mapping[str, GoldNode]
"""Gold nodes by ``node_key(section_path)``."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is judged. ``listed``: how many mistakes of each kind are kept, None for all."""

    include_ungrounded: bool = False
    all_nodes: bool = False
    gold_fields_only: bool = False
    listed: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Values by how they were judged, and the measures that follow (van Rijsbergen, Information Retrieval, 1979).

    A measure is None where it would divide by zero: the precision of nothing found, the recall of nothing expected.
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP): the share of what was found that is right."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN): the share of what should be found that was."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN): 0 where one is 0 and the other None."""
        return _share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


class Means(NamedTuple):
    """Arithmetic means of the fields' measures, of those that have one; None where none has."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A value that is wrong (both), missed (``found`` is None) or extra (``expected`` is None)."""

    section_path: str
    name: str
    path: str | None
    expected: str | None
    found: str | None


@dataclass(slots=True)
class Mistakes:
    """Mistakes of one kind: how many, and the first of them."""

    limit: int | None = None
    count: int = 0
    listed: list[Mistake] = field(default_factory=list)

    def add(self, mistake: Mistake) -> None:
        """Counts a mistake, and keeps it within the limit."""
        self.count += 1
        if self.limit is None or len(self.listed) < self.limit:
            self.listed.append(mistake)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a run came to against gold.

    ``fields``: a score per field name; indexes in JSON pointers are ``*``. ``facts_outside``: facts of nodes that
    the gold does not name (judged only with ``Scope.all_nodes``). A wrong value is a false positive and a false
    negative, a missed one a false negative, an extra one a false positive.
    """

    fields: Mapping[str, Score]
    wrong: Mistakes
    missed: Mistakes
    extra: Mistakes
    nodes_in_gold: int
    nodes_without_facts: int
    facts_outside: int

    @property
    def micro(self) -> Score:
        """The score of all values together, whatever their field."""
        scores = self.fields.values()
        return Score(
            sum(score.true_positives for score in scores),
            sum(score.false_positives for score in scores),
            sum(score.false_negatives for score in scores),
        )

    @property
    def macro(self) -> Means:
        """The means over fields, all of the same weight; of F1 the mean of the fields' F1 (Opitz & Burst 2019)."""
        scores = self.fields.values()
        return Means(
            _mean(score.precision for score in scores),
            _mean(score.recall for score in scores),
            _mean(score.f1 for score in scores),
        )


def _mean(measures: Iterable[float | None]) -> float | None:
    known = [measure for measure in measures if measure is not None]
    return sum(known) / len(known) if known else None


def node_key(section_path: str) -> str:
    """What names the same node however it is written: ``/r[1]/Pax[2]``, ``/r/Pax[2]`` and ``r/Pax[2]`` are one."""
    return section_path.strip().strip("/").replace("[1]", "")


def field_of(name: str) -> str:
    """The field that a value is counted under: ``/pax/3/id`` of a record is ``/pax/*/id``, other names stay."""
    return _INDEX_IN_POINTER.sub("/*", name) if name.startswith("/") else name


def normalized(value: str) -> str:
    """A value as it is compared: white space trimmed and collapsed, and nothing else."""
    return " ".join(value.split())


def evaluate(gold: Gold, facts: Iterable[Mapping[str, Any]], scope: Scope) -> Evaluation:
    """Judges a run's facts (as ``stream_facts`` gives them, ungrounded values included) by gold.

    A value is right where the gold of its node has the same name and value that no other value has taken: they are
    matched one to one. What is left over of the same node and name is paired in order (wrong values); the rest is
    missed or extra. Memory: the gold, and the mistakes that are listed.
    """
    judge = _Judge(gold, scope)
    for fact in facts:
        judge.hear(fact)
    return judge.verdict()


class _Judge:
    """Hears facts one by one. ``_open``: values of gold nodes that no value has taken yet, by name and value."""

    def __init__(self, gold: Gold, scope: Scope) -> None:
        self._gold = gold
        self._scope = scope
        names = (value.name for node in gold.values() for value in node.values)
        self._known = {field_of(name) for name in names} if scope.gold_fields_only else None
        self._open: dict[str, dict[tuple[str, str], list[GoldValue]]] = {}
        self._left_over: dict[str, list[GoldValue]] = {}
        self._right: Counter[str] = Counter()
        self._false: Counter[str] = Counter()
        self._unfound: Counter[str] = Counter()
        self._wrong, self._missed, self._extra = (Mistakes(scope.listed) for _ in range(3))
        self._facts_outside = 0

    def hear(self, fact: Mapping[str, Any]) -> None:
        """Matches what the gold has; the rest waits for the end, since a node may have several facts."""
        key = node_key(fact["section_path"])
        if key not in self._gold:
            self._hear_outside(fact)
            return
        if key not in self._open:
            self._open[key] = _by_name_and_value(self._gold[key].values)
        expected = self._open[key]
        for value in self._judged(fact):
            same = expected.get((value.name, normalized(value.value)))
            if same:
                same.pop()
                self._right[field_of(value.name)] += 1
            else:
                self._left_over.setdefault(key, []).append(value)

    def _hear_outside(self, fact: Mapping[str, Any]) -> None:
        self._facts_outside += 1
        if self._scope.all_nodes:
            for value in self._judged(fact):
                self._blame(fact["section_path"], None, value)

    def _judged(self, fact: Mapping[str, Any]) -> Iterator[GoldValue]:
        for found in fact["fields"]:
            is_known = self._known is None or field_of(found["name"]) in self._known
            if is_known and (found["grounded"] or self._scope.include_ungrounded):
                yield GoldValue(found["name"], found["value"], found["path"])

    def verdict(self) -> Evaluation:
        """Pairs what is left over, and counts."""
        for key, node in self._gold.items():
            unfound = _untaken(self._open[key]) if key in self._open else node.values
            for expected, found in _paired(unfound, self._left_over.get(key, ())):
                self._blame(node.section_path, expected, found)
        names = sorted({*self._right, *self._false, *self._unfound})
        return Evaluation(
            fields={name: Score(self._right[name], self._false[name], self._unfound[name]) for name in names},
            wrong=self._wrong,
            missed=self._missed,
            extra=self._extra,
            nodes_in_gold=len(self._gold),
            nodes_without_facts=len(self._gold) - len(self._open),
            facts_outside=self._facts_outside,
        )

    def _blame(self, section_path: str, expected: GoldValue | None, found: GoldValue | None) -> None:
        value = found or expected
        if value is None:
            return
        self._false[field_of(value.name)] += found is not None
        self._unfound[field_of(value.name)] += expected is not None
        kind = self._missed if found is None else self._extra if expected is None else self._wrong
        wanted, seen = (side.value if side is not None else None for side in (expected, found))
        kind.add(Mistake(section_path, value.name, value.path, wanted, seen))


def _by_name_and_value(values: Iterable[GoldValue]) -> dict[tuple[str, str], list[GoldValue]]:
    """Equal values last to first, so that ``pop`` takes them in order."""
    by_key: dict[tuple[str, str], list[GoldValue]] = {}
    for value in reversed(list(values)):
        by_key.setdefault((value.name, normalized(value.value)), []).append(value)
    return by_key


def _untaken(expected: Mapping[tuple[str, str], list[GoldValue]]) -> Iterator[GoldValue]:
    """What nothing was matched with, in the order of the gold."""
    for values in reversed(list(expected.values())):
        yield from reversed(values)


def _paired(
    expected: Iterable[GoldValue], found: Iterable[GoldValue]
) -> Iterator[tuple[GoldValue | None, GoldValue | None]]:
    """Leftovers of the same name side by side, in order; None where the other side has no more."""
    wanted, seen = _by_name(expected), _by_name(found)
    for name in dict.fromkeys((*wanted, *seen)):
        yield from zip_longest(wanted.get(name, ()), seen.get(name, ()))


def _by_name(values: Iterable[GoldValue]) -> dict[str, list[GoldValue]]:
    groups: dict[str, list[GoldValue]] = defaultdict(list)
    for value in values:
        groups[value.name].append(value)
    return groups
