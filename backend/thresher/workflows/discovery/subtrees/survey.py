"""A look over a document: whether it can be read, what it is, and which paths its elements stand at."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from thresher.workflows.discovery.subtrees.choice import choose
from thresher.workflows.discovery.subtrees.detection import TELLING, TEXTS, Detection, Detector
from thresher.workflows.discovery.subtrees.limits import MEBIBYTE, Limits
from thresher.workflows.discovery.subtrees.matching import Matcher
from thresher.workflows.discovery.subtrees.names import split_name
from thresher.workflows.discovery.subtrees.parsing import GuardedParser
from thresher.workflows.discovery.subtrees.path_tree import OTHERS, PathNode
from thresher.workflows.discovery.subtrees.paths import SubtreePath, parse_paths
from thresher.workflows.discovery.subtrees.source import SourceDocument
from thresher.workflows.discovery.subtrees.window import Window

WHOLE_UP_TO = 16 * MEBIBYTE
WINDOW_BYTES = 2 * MEBIBYTE
_MAX_PATHS_SHOWN = 500
_MAX_TEXT = 256
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


class _Surveying:
    """One look over one document."""

    def __init__(self, document: SourceDocument, limits: Limits) -> None:
        self._document = document
        self._limits = limits
        self._parser = GuardedParser(document.name, limits)
        self._parser.handle(self._on_start, self._on_end, self._on_declaration)
        self._window = Window(document.encoding)
        self._detector = Detector()
        self._top = PathNode("", 0)
        # Of the elements that are open: their nodes, their (parser's) names, where they start.
        self._open = [self._top]
        self._names: list[str] = []
        self._starts: list[int] = []
        self._texts: list[str] = []
        self._deepest = limits.max_depth
        self._settled = 0  # how far sizes are summed up

    def run(self) -> Survey:
        complete = self._read()
        if not complete:
            self._close_what_is_open()
        self._settle()
        root = next(iter(self._top.children.values()))
        document = self._document
        return Survey(
            document.name,
            document.encoding.declared or document.encoding.codec,
            document.size_bytes,
            document.is_gzip,
            self._window.end,
            complete,
            self._detector.result(),
            root,
            self._limits,
        )

    def _read(self) -> bool:
        chunks = self._first_chunks()
        for chunk in chunks:
            self._window.append(chunk)
            if chunk:
                self._parser.feed(chunk)
                self._window.forget(max(self._parser.offset, self._window.start))
                if self._window.end >= self._settled + MEBIBYTE:
                    self._settle()
            else:
                self._parser.close()
                return True
        return False

    def _settle(self) -> None:
        """Sums up sizes now and then: many at once are much cheaper than each of its own."""
        self._settled = self._window.end
        for node in self._top.walk():
            node.settle()

    def _first_chunks(self) -> Iterator[bytes]:
        """The whole document where it is small (inflated, too), else its beginning."""
        is_small = self._document.size_bytes <= WHOLE_UP_TO and not self._document.is_gzip
        for chunk in self._document.utf8_chunks():
            yield chunk
            if not is_small and self._window.end >= WINDOW_BYTES and self._top.children:
                return

    def _on_declaration(self, _prefix: str | None, uri: str | None) -> None:
        if uri:
            self._detector.note_namespaces([uri])

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
        if node.local in _TELLING or self._detector.is_looking:
            self._detect(name, attributes)

    def _note_attributes(self, node: PathNode, attributes: list[str]) -> None:
        if len(attributes) > 2 * self._limits.max_attributes:
            self._parser.refuse(f"an element has more than {self._limits.max_attributes:,} attributes")
        node.note_attributes(attributes)

    def _detect(self, name: str, attributes: list[str]) -> None:
        self._detector.start(self._path(), name, attributes)
        if split_name(name)[1] in TEXTS:
            self._texts = []
            self._parser.hear_text(self._on_text)

    def _path(self) -> list[str]:
        return [split_name(name)[1] for name in self._names]

    def _on_text(self, text: str) -> None:
        if len(self._texts) < _MAX_TEXT:
            self._texts.append(text[:_MAX_TEXT])

    def _on_end(self, name: str) -> None:
        node, start = self._open.pop(), self._starts.pop()
        node.noted.append(self._window.end_of_element(start, self._parser.offset) - start)
        if node.local in _TELLING and split_name(name)[1] in TEXTS:
            self._parser.hear_text(None)
            self._detector.text(self._path(), "".join(self._texts))
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
