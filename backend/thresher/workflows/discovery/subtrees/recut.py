"""A subtree that was cut out already, cut into smaller pieces: where a model's answer did not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from thresher.workflows.discovery.subtrees.limits import Limits
from thresher.workflows.discovery.subtrees.pieces import PieceCutter
from thresher.workflows.discovery.subtrees.subtree import Shells


@dataclass(frozen=True, slots=True)
class SmallerPiece:
    """A part of a subtree; ``shells`` are counted from the source document, as those of a ``Subtree``."""

    xml: str
    shells: Shells


def split_further(xml: str, shells: Shells, max_bytes: int, limits: Limits | None = None) -> list[SmallerPiece]:
    """Cuts a subtree into pieces of at most ``max_bytes`` where that can be done; one piece where it cannot.

    ``shells`` are those of the subtree itself, where it is a piece already.
    """
    cutter = PieceCutter(b"", replace(limits or Limits(), max_subtree_bytes=max_bytes))
    pieces = [*cutter.feed(xml.encode()), cutter.finish()]
    return [SmallerPiece(piece.xml.decode(), _combined(piece.shells, shells)) for piece in pieces]


def _combined(inner: Shells, outer: Shells) -> dict[str, dict[str, int]]:
    """Adds up what two cuts, one after the other, left in earlier pieces."""
    combined = {path: dict(missing) for path, missing in inner.items()}
    for path, missing in inner.items():
        for name, count in outer.get(_moved(path, inner, 1), {}).items():
            combined[path][name] = missing.get(name, 0) + count
    for path, missing in outer.items():
        seen = _moved(path, inner, -1)
        if seen not in combined and seen:
            combined[seen] = dict(missing)
    return combined


def _moved(path: str, inner: Shells, sign: int) -> str:
    """A path of the smaller piece in the larger one (``sign`` 1) or the reverse (-1); empty where it has none."""
    steps: list[str] = []
    around = "."  # the shell around the step, by its path in the smaller piece
    for step, name, index in _steps(path):
        missing: Mapping[str, int] = inner.get(around, {})
        moved = index + sign * missing.get(name, 0)
        if moved < 1:
            return ""
        steps.append(f"{name}[{moved}]")
        small = step if sign > 0 else steps[-1]
        around = small if around == "." else f"{around}/{small}"
    return "/".join(steps) or "."


def _steps(path: str) -> Iterator[tuple[str, str, int]]:
    """(step, name, index) of each step below the root; the steps of shells are all counted."""
    for step in path.split("/") if path != "." else ():
        name, _, counter = step.partition("[")
        yield step, name, int(counter.rstrip("]") or 1)
