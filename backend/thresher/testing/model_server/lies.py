"""Wrong values: put into an answer in places that the seed draws, and remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from thresher.llm.structural import scalars
from thresher.llm.structural.fill import Proof
from thresher.testing.model_server.faults import Lottery

Json = Any


@dataclass(frozen=True, slots=True)
class Lie:
    """A wrong value in an answer: its JSON pointer there, the path that the answer names, the value and the truth."""

    pointer: str
    path: str
    value: scalars.Scalar
    truth: scalars.Scalar


class Liar:
    """Tells lies about a share of fields; for the same seed and subtree always about the same ones."""

    def __init__(self, share: float, lottery: Lottery) -> None:
        self._share = share
        self._lottery = lottery

    def tell(self, answer: Json, proofs: Sequence[Proof], key: str, subtree: str) -> Sequence[Lie]:
        """Changes an answer in place; returns what was changed. What can hold no wrong value (a constant) is kept."""
        lies: list[Lie] = []
        for proof in proofs:
            if self._lottery.chance(f"lie:{key}:{proof.pointer}") < self._share:
                lies.extend(_told(answer, proof, subtree))
        return lies


def _told(answer: Json, proof: Proof, subtree: str) -> Iterator[Lie]:
    holder, step = _place(answer, proof.pointer)
    truth = holder[step] if holder is not None else None
    mark = blake2b(f"{proof.pointer}:{proof.path}:{truth}".encode(), digest_size=4).hexdigest()
    fitting = (
        value
        for value in _candidates(truth, mark, proof.schema)
        if str(value) not in subtree and scalars.allows(proof.schema, value)
    )
    value = not truth if isinstance(truth, bool) else next(fitting, None)
    if holder is not None and value is not None and scalars.allows(proof.schema, value):
        holder[step] = value
        yield Lie(proof.pointer, proof.path, value, truth)


def _candidates(truth: scalars.Scalar, mark: str, schema: scalars.Schema) -> Iterator[scalars.Scalar]:
    """Values that look like no other: the subtree decides whether one occurs in it."""
    yield from (member for member in schema.get("enum", ()) if isinstance(member, type(truth)) and member != truth)
    number = int(mark, 16)
    if isinstance(truth, str):
        yield f"wrong-{mark}"
        yield from (mark[:length] for length in range(len(mark), 0, -1))
        yield from "~#%=^"
    elif isinstance(truth, (int, float)):
        yield 900_000_000 + number % 99_999_999
        lowest, highest = schema.get("minimum"), schema.get("maximum")
        yield from (truth + step for step in (7, -7, 13, -13, 1, -1))
        yield from (bound for bound in (lowest, highest) if bound is not None)


def _place(answer: Json, pointer: str) -> tuple[Json, Any]:
    """The list or object that holds what a pointer names, and its index or key; (None, None) for the whole answer."""
    if not pointer:
        return None, None
    *way, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    holder = answer
    for step in way:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    return holder, int(last) if isinstance(holder, list) else last
