"""A look over a document: whether it can be read, what it is, and which paths its elements stand at."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from thresher.workflows.discovery.subtrees.choice import choose
from thresher.workflows.discovery.subtrees.detection import TELLING, TEXTS, Detection
from thresher.workflows.discovery.subtrees.limits import MEBIBYTE, Limits
from thresher.workflows.discovery.subtrees.matching import Matcher
from thresher.workflows.discovery.subtrees.names import split_name
from thresher.workflows.discovery.subtrees.path_tree import OTHERS, PathNode
from thresher.workflows.discovery.subtrees.paths import SubtreePath, parse_paths
from thresher.workflows.discovery.subtrees.recognition import Look
from thresher.workflows.discovery.subtrees.source import SourceDocument
from thresher.workflows.discovery.subtrees.window import Window

_MAX_PATHS_SHOWN = 500
_TELLING = TELLING | {OTHERS}  # local names of nodes; what stands for all others may hold any


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look over a document has found.

    ``complete`` says whether it went to the end; if not, counts and sizes are those of the first ``bytes_read``
    bytes. ``tree`` is the root element's path with all paths below it.
    """

    name: str
    encoding: str
    size_bytes: int
    is_gzip: bool
    bytes_read: int
    complete: bool
    detection: Detection
    tree: PathNode
    limits: Limits = field(default_factory=Limits)

    def choose_paths(self) -> tuple[SubtreePath, ...]:
        """The paths to take where the user names none.

        NDC messages: the members of every list, and the repeated elements of the rest. Other documents: the
        repeated elements that cover most of it, outermost first where they fit; without such, the document's
        sections or the document itself.
        """
        texts = choose(self.tree, self.detection, self.limits.max_subtree_bytes, complete=self.complete)
        return parse_paths(texts)

    def to_dict(self) -> dict[str, object]:
        """JSON for people and programs: at most 500 paths, outer ones first, then in document order."""
        paths = self.choose_paths()
        chosen = self._chosen(paths)
        nodes = sorted(self.tree.walk(), key=lambda node: node.depth)[:_MAX_PATHS_SHOWN]
        kept = {id(node) for node in nodes}
        return {
            "name": self.name,
            "root": self.detection.message_root,
            "version": self.detection.spec_version,
            "sender": self.detection.sender,
            "namespace": self.detection.namespace,
            "encoding": self.encoding,
            "size_bytes": self.size_bytes,
            "complete": self.complete,
            "bytes_read": self.bytes_read,
            "chosen": [path.text for path in paths],
            "paths": [_describe(node, chosen) for node in self.tree.walk() if id(node) in kept],
        }

    def _chosen(self, paths: Sequence[SubtreePath]) -> set[int]:
        """The nodes that paths without predicates match."""
        matcher = Matcher(paths)
        chosen: set[int] = set()
        waiting = [(self.tree, matcher.start)]
        while waiting:
            node, around = waiting.pop()
            transition = matcher.transition(around, node.local)
            if transition.matched >= 0:
                chosen.add(id(node))
            if transition.state is not None:
                waiting.extend((child, transition.state) for child in node.children.values())
        return chosen


def survey(document: SourceDocument, limits: Limits | None = None) -> Survey:
    """Looks over a document: all of it up to 16 MiB, else its first 2 MiB.

    Raises:
        MalformedDocument: what was read is not well-formed XML; says line and column.
        UnsafeDocument: it declares entities or is beyond a bound.
    """
    return _Surveying(document, limits or document.limits).run()


class _Surveying(Look):
    """A look that counts the paths it passes."""

    def __init__(self, document: SourceDocument, limits: Limits) -> None:
        super().__init__(document, limits)
        self._window = Window(document.encoding)
        self._top = PathNode("", 0)
        # Of the elements that are open: their nodes, where they start.
        self._open = [self._top]
        self._starts: list[int] = []
        self._deepest = limits.max_depth
        self._settled = 0  # how far sizes are summed up

    def run(self) -> Survey:
        complete = self.read()
        if not complete:
            self._close_what_is_open()
        self._settle()
        root = next(iter(self._top.children.values()))
        document = self._document
        return Survey(
            document.name,
            self.encoding,
            document.size_bytes,
            document.is_gzip,
            self._window.end,
            complete,
            self.detector.result(),
            root,
            self._limits,
        )

    def _take(self, chunk: bytes) -> None:
        self._window.append(chunk)
        self._parser.feed(chunk)
        self._window.forget(max(self._parser.offset, self._window.start))
        self._has_begun = bool(self._top.children)
        if self._window.end >= self._settled + MEBIBYTE:
            self._settle()

    def _settle(self) -> None:
        """Sums up sizes now and then: many at once are much cheaper than each of its own."""
        self._settled = self._window.end
        for node in self._top.walk():
            node.settle()

    def _on_start(self, name: str, attributes: list[str]) -> None:
        around = self._open
        if len(around) > self._deepest:
            self._parser.refuse_depth()
        node = around[-1].by_name.get(name) or around[-1].child(name)
        around.append(node)
        self._names.append(name)
        self._starts.append(self._parser.offset)
        if attributes:
            self._note_attributes(node, attributes)
        if node.local in _TELLING or self.detector.is_looking:
            self._detect(name, attributes)

    def _note_attributes(self, node: PathNode, attributes: list[str]) -> None:
        if len(attributes) > 2 * self._limits.max_attributes:
            self._refuse_attributes()
        node.note_attributes(attributes)

    def _on_end(self, name: str) -> None:
        node, start = self._open.pop(), self._starts.pop()
        node.noted.append(self._window.end_of_element(start, self._parser.offset) - start)
        if node.local in _TELLING and split_name(name)[1] in TEXTS:
            self._end_of_text()
        self._names.pop()

    def _close_what_is_open(self) -> None:
        """Counts what the window's end cut through as far as it was seen."""
        for node, start in zip(self._open[1:], self._starts, strict=True):
            node.noted.append(self._window.end - start)


def _describe(node: PathNode, chosen: set[int]) -> dict[str, object]:
    sizes = node.sizes or [0]
    return {
        "path": node.path,
        "count": node.count,
        "bytes_min": node.smallest,
        "bytes_median": int(statistics.median(sizes)),
        "bytes_max": node.largest,
        "bytes_total": node.total,
        "depth": node.depth,
        "attributes": sorted(node.attributes),
        "chosen": id(node) in chosen,
    }
