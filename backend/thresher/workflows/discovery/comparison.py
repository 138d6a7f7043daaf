"""What differs between the facts of two runs: of two versions of a document, two models, two configurations."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from itertools import groupby, zip_longest
from typing import Any, NamedTuple

Fact = Mapping[str, Any]
Facts = Callable[[], Iterable[Fact]]
"""Streams a run's facts from the beginning, in document order, as ``stream_facts`` with ungrounded values does."""

_Waiting = dict[bytes | None, deque[Fact]]  # facts of the new run whose partner comes later, by place; never None

_DIGEST_BYTES = 16


class DifferenceKind(StrEnum):
    """What became of a fact."""

    ADDED = "added"
    LOST = "lost"
    CHANGED = "changed"


class State(NamedTuple):
    """A value in one run."""

    value: str
    grounded: bool


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A field or reference (``kind``) before and after; ``old`` None where it is new, ``new`` None where it is gone."""

    kind: str
    name: str
    path: str
    old: State | None
    new: State | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact that differs; of one that was added or lost, every value is in ``values``."""

    kind: DifferenceKind
    section_path: str
    node_type: str
    values: Sequence[ValueChange]


@dataclass(slots=True)
class Counts:
    """Facts by what became of them, and the values of those that changed.

    ``moved``: the same content in another place, which is no difference.
    """

    same: int = 0
    moved: int = 0
    changed: int = 0
    added: int = 0
    lost: int = 0
    values_changed: int = 0
    values_added: int = 0
    values_lost: int = 0

    @property
    def equal(self) -> bool:
        """No fact was changed, added or lost."""
        return not (self.changed or self.added or self.lost)


class Comparison:
    """Compares two runs, each streamed twice.

    Facts are aligned in three steps: same place and content; same type and content elsewhere (moved: an inserted node
    shifts the indexes behind it); same place and type with other content (changed). The place is the section path.
    The content is the type and all fields and references: name, value, path, whether grounded, in any order.
    Confidence, reader and the form of records are not compared. The rest was lost, or added.

    Memory: digests of the facts that differ or moved (some 300 bytes each), and facts that wait for their partner,
    few since both runs come in document order.
    """

    def __init__(self, old: Facts, new: Facts) -> None:
        self._old = old
        self._new = new
        self.counts = Counts()

    def differences(self) -> Iterator[Difference]:
        """Yields what differs, about in document order; ``counts`` are complete at the end."""
        self.counts = Counts()
        old, new = _align(self._old(), self._new())
        arriving = new.open_facts(self._new())
        waiting: _Waiting = {}
        for place, fact in old.open_facts(self._old()):
            if place is not None:
                yield from self._until(place, arriving, waiting)
            yield self._told(fact, _first(waiting, place))
        for place, fact in arriving:
            del place  # whatever waits now has lost its partner: the run went on between the two readings
            yield self._told(None, fact)
        for facts in waiting.values():
            yield from (self._told(None, fact) for fact in facts)
        self.counts.same, self.counts.moved = old.same, old.moved

    def _until(
        self, place: bytes, arriving: Iterator[tuple[bytes | None, Fact]], waiting: _Waiting
    ) -> Iterator[Difference]:
        """Reads on in the new run until the partner of ``place`` has come."""
        while place not in waiting:
            found = next(arriving, None)
            if found is None:
                return
            if found[0] is None:
                yield self._told(None, found[1])
            else:
                waiting.setdefault(found[0], deque()).append(found[1])

    def _told(self, old: Fact | None, new: Fact | None) -> Difference:
        known = new or old or {}
        changes = tuple(_changes(_values(old), _values(new)))
        kind = DifferenceKind.CHANGED
        if old is None or new is None:
            kind = DifferenceKind.ADDED if old is None else DifferenceKind.LOST
        self._count(kind, changes)
        return Difference(kind, known["section_path"], known["node_type"], changes)

    def _count(self, kind: DifferenceKind, changes: Sequence[ValueChange]) -> None:
        counts = self.counts
        setattr(counts, kind.value, getattr(counts, kind.value) + 1)
        if kind is DifferenceKind.CHANGED:
            counts.values_added += sum(change.old is None for change in changes)
            counts.values_lost += sum(change.new is None for change in changes)
            counts.values_changed += sum(change.old is not None and change.new is not None for change in changes)


def _first(waiting: _Waiting, place: bytes | None) -> Fact | None:
    """Takes the first that waits at a place, if one does."""
    facts = waiting.get(place)
    if facts is None:
        return None
    fact = facts.popleft()
    if not facts:
        del waiting[place]
    return fact


# -- Alignment ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Side:
    """One run's facts that have no twin in their place: ``left``, by place and content, how many.

    Of these ``moved`` have their twin elsewhere, and ``paired``, by place, have a partner of other content.
    """

    left: Counter[bytes] = field(default_factory=Counter)
    moved_left: Counter[bytes] = field(default_factory=Counter)
    paired: Counter[bytes] = field(default_factory=Counter)
    same: int = 0
    moved: int = 0

    def open_facts(self, facts: Iterable[Fact]) -> Iterator[tuple[bytes | None, Fact]]:
        """Yields the facts that differ, with their place where a partner is there; counts the others."""
        for fact in facts:
            place, content = _digests(fact)
            if not _taken(self.left, place + content):
                self.same += 1
            elif _taken(self.moved_left, place + content):
                self.moved += 1
            else:
                yield (place if _taken(self.paired, place) else None), fact


def _align(old_facts: Iterable[Fact], new_facts: Iterable[Fact]) -> tuple[_Side, _Side]:
    """Side by side, so that runs that are alike are held for no longer than they differ."""
    old, new = _Side(), _Side()
    for pair in zip_longest(old_facts, new_facts):
        for fact, own, other in zip(pair, (old, new), (new, old), strict=True):
            if fact is not None:
                key = b"".join(_digests(fact))
                if not _taken(other.left, key):
                    own.left[key] += 1
    _find_moved(old, new)
    _find_partners(old, new)
    return old, new


def _find_moved(old: _Side, new: _Side) -> None:
    """Twins elsewhere; where there are more than the other run has, first those without a partner in their place."""
    contents = {_content(key) for key in old.left}
    common = {_content(key) for key in new.left if _content(key) in contents}
    del contents
    groups = (groupby(_by_content(side, other, common), _content) for side, other in ((old, new), (new, old)))
    for pair in zip(*groups, strict=True):
        keys = [list(group) for _, group in pair]
        wanted = min(sum(side.left[key] for key in group) for side, group in zip((old, new), keys, strict=True))
        for side, group in zip((old, new), keys, strict=True):
            _take(side, group, wanted)


def _by_content(side: _Side, other: _Side, contents: set[bytes]) -> list[bytes]:
    """The keys with these contents, equal contents together, and of these the ones to be taken first in front."""
    keys = [key for key in side.left if _content(key) in contents]
    places_of_other = {_place(key) for key in other.left}
    keys.sort(key=lambda key: _place(key) in places_of_other)
    keys.sort(key=_content)
    return keys


def _take(side: _Side, keys: Iterable[bytes], wanted: int) -> None:
    for key in keys:
        taken = min(wanted, side.left[key])
        if taken:
            side.moved_left[key] = taken
        wanted -= taken


def _find_partners(old: _Side, new: _Side) -> None:
    both = _open_places(old) & _open_places(new)  # the lesser count of each
    old.paired, new.paired = both.copy(), both


def _open_places(side: _Side) -> Counter[bytes]:
    places: Counter[bytes] = Counter()
    for key, count in side.left.items():
        if count > side.moved_left[key]:
            places[_place(key)] += count - side.moved_left[key]
    return places


def _place(key: bytes) -> bytes:
    return key[:_DIGEST_BYTES]


def _content(key: bytes) -> bytes:
    return key[_DIGEST_BYTES:]


def _taken(counter: Counter[bytes], key: bytes) -> bool:
    """Takes one of a key, if there is one."""
    count = counter.get(key, 0)
    if count > 1:
        counter[key] = count - 1
    elif count:
        del counter[key]
    return count > 0


def _digests(fact: Fact) -> tuple[bytes, bytes]:
    """Of place and type, and of type and content."""
    values = sorted((*key, *state) for key, states in _values(fact).items() for state in states)
    return _digest((fact["section_path"], fact["node_type"])), _digest((fact["node_type"], values))


def _digest(what: object) -> bytes:
    return blake2b(repr(what).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


# -- Values -------------------------------------------------------------------------------------------------

_Key = tuple[str, str, str]  # kind, name, path


def _values(fact: Fact | None) -> dict[_Key, list[State]]:
    """The values of a fact in its order; a name may have several at the same path."""
    values: dict[_Key, list[State]] = {}
    if fact is None:
        return values
    for kind, held in (("field", "fields"), ("reference", "references")):
        for value in fact[held]:
            key = (kind, value["name"], value["path"])
            values.setdefault(key, []).append(State(value["value"], bool(value.get("grounded", True))))
    return values


def _changes(old: Mapping[_Key, list[State]], new: Mapping[_Key, list[State]]) -> Iterator[ValueChange]:
    """What differs, by kind, name and path; of several values those that stayed are left out first."""
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key, []), new.get(key, [])
        gone, come = _without(before, after), _without(after, before)
        yield from (ValueChange(*key, *states) for states in zip_longest(gone, come))


def _without(states: Iterable[State], others: Iterable[State]) -> list[State]:
    rest = Counter(others)
    kept = []
    for state in states:
        if rest[state]:
            rest[state] -= 1
        else:
            kept.append(state)
    return kept
