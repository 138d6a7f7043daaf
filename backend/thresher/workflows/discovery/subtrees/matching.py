"""Matches elements against paths as they stream by, at the cost of one dictionary lookup each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thresher.workflows.discovery.subtrees.names import split_name
from thresher.workflows.discovery.subtrees.paths import Condition, Step, SubtreePath

_MAX_STATES = 4_096

Place = tuple[int, int]  # the number of a path, the number of its step that a child may match


@dataclass(slots=True)
class State:
    """What may match below an element. Without ``places`` nothing below it can match."""

    places: frozenset[Place]
    transitions: dict[str, Transition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transition:
    """What an element of a name leads to.

    ``matched`` is the number of the first path that ends here, -1 for none. ``undecided`` holds where a predicate
    must look at the element itself.
    """

    local: str
    matched: int = -1
    state: State | None = None
    undecided: tuple[Place, ...] = ()


class Matcher:
    """The automaton of a set of paths.

    States are sets of places, built when an element first needs them and kept by (state, name): a name seen
    before costs one lookup, whatever the paths. Only steps with predicates are looked at again.
    """

    def __init__(self, paths: Sequence[SubtreePath]) -> None:
        self.paths = tuple(paths)
        self._states: dict[frozenset[Place], State] = {}
        self.names_seen = 0
        self.start = self._state(frozenset((number, 0) for number in range(len(self.paths))))

    def transition(self, state: State, name: str) -> Transition:
        """Where an element of this (parser's) name leads from its parent's state."""
        found = state.transitions.get(name)
        if found is None:
            self.names_seen += 1
            found = state.transitions[name] = self._build(state, name)
        return found

    def decide(
        self, state: State, transition: Transition, counts: Mapping[str, int], attributes: Sequence[str]
    ) -> Transition:
        """Resolves a transition's predicates for one element.

        ``counts`` are its parent's counts of children by local name, this one included.
        ``attributes`` alternates names and values.
        """
        local = transition.local
        passed = {place for place in transition.undecided if _holds(self._step(place), counts, local, attributes)}
        return self._lead(state, local, self._certain(state, transition) | passed)

    def _build(self, state: State, name: str) -> Transition:
        uri, local = split_name(name)
        fitting = {place for place in state.places if self._step(place).accepts_name(uri, local)}
        undecided = tuple(sorted(place for place in fitting if _has_predicate(self._step(place))))
        if undecided:
            return Transition(local, undecided=undecided, state=self._state(frozenset(fitting)))
        return self._lead(state, local, fitting)

    @staticmethod
    def _certain(state: State, transition: Transition) -> set[Place]:
        fitting = transition.state.places if transition.state else frozenset()
        return set(fitting & state.places) - set(transition.undecided)

    def _lead(self, state: State, local: str, passed: set[Place]) -> Transition:
        ends = [number for number, step in passed if step + 1 == len(self.paths[number].steps)]
        onward = {(number, step + 1) for number, step in passed if step + 1 < len(self.paths[number].steps)}
        staying = {place for place in state.places if self._step(place).anywhere}
        return Transition(local, min(ends, default=-1), self._state(frozenset(onward | staying)))

    def _state(self, places: frozenset[Place]) -> State:
        found = self._states.get(places)
        if found is None:
            if len(self._states) >= _MAX_STATES:
                self._states.clear()
            found = self._states[places] = State(places)
        return found

    def _step(self, place: Place) -> Step:
        return self.paths[place[0]].steps[place[1]]


def _has_predicate(step: Step) -> bool:
    return step.position is not None or bool(step.conditions)


def _holds(step: Step, counts: Mapping[str, int], local: str, attributes: Sequence[str]) -> bool:
    if step.position is not None:
        index = sum(counts.values()) if step.local == "*" else counts[local]
        if index != step.position:
            return False
    return all(_has_attribute(condition, attributes) for condition in step.conditions)


def _has_attribute(condition: Condition, attributes: Sequence[str]) -> bool:
    for name, value in zip(attributes[::2], attributes[1::2], strict=True):
        uri, local = split_name(name)
        if local == condition.local and value == condition.value and condition.uri in {None, uri}:
            return True
    return False
