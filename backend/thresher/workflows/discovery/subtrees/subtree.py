"""A subtree: what is cut out of a document, and where it stood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from thresher.workflows.discovery.subtrees.paths import SubtreePath

Shells = Mapping[str, Mapping[str, int]]
_NO_SHELLS: Shells = {}


class Subtree(NamedTuple):
    """An element of a document as it is written there, or one piece of an element that is too large.

    ``section_path`` is absolute, by local names, counted: ``/OrderViewRS/Response[1]/Order[1]``; all pieces of an
    element share it. ``ordinal`` counts the matches of ``path`` from 1, ``target`` all matches from 0 in the order
    of their start tags. ``piece`` counts from 0; a whole element is piece 0 and no pieces follow.
    ``xml`` parses alone: the namespaces in scope that it uses are declared on it. ``byte_range`` (start, end) is
    the place in the document's own bytes (inflated), None where the encoding does not tell. ``shells`` maps the
    elements around or cut by a piece, by their path within the piece (``.`` for its root), to how many earlier
    siblings of each name among their children stand in earlier pieces. ``depth`` is 1 for the root element.
    A tuple because there are so many of them: a frozen dataclass takes three times as long to make.
    """

    path: SubtreePath
    section_path: str
    node_type: str
    ordinal: int
    target: int
    depth: int
    xml: str
    size_bytes: int
    byte_range: tuple[int, int] | None = None
    piece: int = 0
    pieces_follow: bool = False
    shells: Shells = _NO_SHELLS

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole element."""
        return self.piece == 0 and not self.pieces_follow
