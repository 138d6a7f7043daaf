"""The splitter: a document streams by, its subtrees are cut out as they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thresher.workflows.discovery.subtrees.base64_text import MIN_CHARACTERS, has_long_run
from thresher.workflows.discovery.subtrees.limits import Limits
from thresher.workflows.discovery.subtrees.markup import Markup
from thresher.workflows.discovery.subtrees.matching import Matcher, State
from thresher.workflows.discovery.subtrees.namespaces import EMPTY_SCOPE, Scope, declarations, needed, widen
from thresher.workflows.discovery.subtrees.parsing import GuardedParser
from thresher.workflows.discovery.subtrees.paths import SubtreePath
from thresher.workflows.discovery.subtrees.pieces import Piece, PieceCutter, declare
from thresher.workflows.discovery.subtrees.sibling_runs import Place
from thresher.workflows.discovery.subtrees.skipping import MORE, SAMPLED, Skipper
from thresher.workflows.discovery.subtrees.source import SourceDocument
from thresher.workflows.discovery.subtrees.subtree import Subtree
from thresher.workflows.discovery.subtrees.window import Window

_REPEATED = 4  # the number of an element among its siblings of one name from which it is likely that more will follow
_LOOKS = 256  # elements of a chunk that are looked at where nothing can match
_LEVELS = 4  # how far below the innermost frame elements that repeat are looked for
_MAX_REPEATED = 32
Declared = Mapping[bytes, bytes]


class _Frame:
    """An open element that paths can still match below. There are many; few are ever asked for their path."""

    __slots__ = ("_path", "counts", "declared", "index", "local", "may_repeat", "parent", "scope", "state", "target")

    def __init__(
        self, parent: _Frame | None, local: str, index: int, state: State, names: tuple[Scope, Declared]
    ) -> None:
        self.parent = parent
        self.local = local
        self.index = index
        self.state = state
        self.scope, self.declared = names
        self.counts: dict[str, int] = {}  # of its children, by local name
        self.target: _Target | None = None
        self.may_repeat = False  # whether every element of its name beside it matches, or does not, as it does
        self._path: str | None = None

    @property
    def path(self) -> str:
        """Its exact XPath; empty for what stands around the root."""
        if self._path is None:
            parent = self.parent
            if parent is None:
                self._path = ""
            elif parent.parent is None:
                self._path = f"/{self.local}"
            else:
                self._path = f"{parent.path}/{self.local}[{self.index}]"
        return self._path


@dataclass(slots=True)
class _Target:
    """An element that was matched and has not ended. Offsets are in UTF-8, ``source_start`` in the source."""

    path: SubtreePath
    matched: int  # the number of the path
    section_path: str
    node_type: str
    ordinal: int
    number: int
    depth: int
    start: int
    source_start: int
    declared: Mapping[bytes, bytes]
    cutter: PieceCutter | None = None
    fed: int = 0


def split(document: SourceDocument, paths: Sequence[SubtreePath], limits: Limits | None = None) -> Iterator[Subtree]:
    """Yields the elements that paths match, each as it ends, as they are written in the document.

    Elements within matched elements are matched too; an element matched by several paths counts once, for the
    first. Memory does not depend on the document's size. Nothing is final until the iterator has ended well: a
    document may turn out to be malformed after many subtrees.

    Raises:
        MalformedDocument: the document is not well-formed XML; says line and column.
        UnsafeDocument: it declares entities or is beyond a bound.
    """
    yield from _Splitting(document, paths, limits or document.limits).run()


class _Splitting:
    """One pass over one document."""

    def __init__(self, document: SourceDocument, paths: Sequence[SubtreePath], limits: Limits) -> None:
        self._document = document
        self._limits = limits
        self._deepest = limits.max_depth
        self._matcher = Matcher(paths)
        self._parser = GuardedParser(document.name, limits)
        self._parser.handle(self._on_start, self._on_end, self._on_declaration)
        self._window = Window(document.encoding)
        self._stack = [_Frame(None, "", 0, self._matcher.start, (EMPTY_SCOPE, {}))]
        self._below = 0  # how many elements are open below the innermost frame, where nothing can match
        self._looks = 0
        self._before = [""] * (_LEVELS + 2)  # by how far below: the name of the last element that started there
        self._repeated: set[str] = set()  # names tried of elements that no path matches
        self._pending: dict[str, str] = {}  # namespaces declared by the element about to start
        self._targets: list[_Target] = []
        self._ordinals = [0] * len(self._matcher.paths)
        self._matched = 0
        self._ready: deque[Subtree] = deque()
        self._at = 0  # how far the parser has been fed
        self._started = 0  # where the last element started that may be taken, or left out, as a whole
        self._waits_for = b""  # its name, as written, while its end is looked for
        self._skipper = Skipper(self._matcher.paths, limits)

    def run(self) -> Iterator[Subtree]:
        for chunk in self._document.utf8_chunks():
            self._window.append(chunk)
            self._looks = _LOOKS
            self._read(is_last=not chunk)
            while self._ready:
                yield self._ready.popleft()
            self._let_go()

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, *, is_last: bool) -> None:
        """Feeds what has come; jumps from the start of an element to its end where nothing in between can matter."""
        while self._at < self._window.end:
            if self._waits_for:
                if not self._jump(self._waits_for, is_last=is_last):
                    return
                continue
            start, stop, name = self._next_stop()
            if name:
                self._feed_start(name, start, stop)
            else:
                self._feed(stop)
        if is_last:
            self._parser.close()

    def _next_stop(self) -> tuple[int, int, bytes]:
        if self._parser.is_holding or self._parser.is_unusual:
            return -1, self._window.end, b""
        return self._skipper.next_start(self._window, self._at)

    def _feed(self, end: int) -> None:
        self._parser.feed(self._window.slice(self._at, end))
        self._at = end

    def _feed_start(self, name: bytes, start: int, stop: int) -> None:
        """Feeds what comes before a tag of this name, and the tag; waits for the end of the element if one has started.

        None has where the tag stands in a comment or the like, or is empty. All before the tag must have been
        understood (also by versions of expat that put tokens off), so that nothing else can have started.
        """
        self._feed(start)
        is_clear, depth = self._parser.offset == start, len(self._stack) + self._below
        self._feed(stop)
        if not is_clear or len(self._stack) + self._below != depth + 1:
            self._skipper.note_use(name, 0, 1)
        elif self._innermost_target() is not None or self._skipper.may_leave_out(name):
            self._waits_for, self._started = name, start

    def _jump(self, name: bytes, *, is_last: bool) -> bool:
        """Goes on behind the element that has just started, where it can be taken, or left out, as a whole.

        False where that cannot be told before more has been read.
        """
        frame, start, depth = self._stack[-1], self._started, len(self._stack) - 1 + self._below
        target = self._innermost_target()
        end = self._skipper.end_of_element(self._window, self._at, (name, start, depth), frame.state)
        if end == MORE and not is_last:
            return False
        self._waits_for = b""
        elements = 1
        if end < 0:
            self._skipper.note_new_names(are_new=self._parser.has_new_names())
        else:
            like = self._leave(end)
            if like is None or like.may_repeat:
                elements += self._pass_siblings(like, (name, depth), frame.state)
        if target is None and end != SAMPLED:
            self._skipper.note_use(name, self._at - start if end >= 0 else 0, elements)
        return True

    def _innermost_target(self) -> _Target | None:
        """The innermost element, if a path matches it."""
        return None if self._below else self._stack[-1].target

    def _leave(self, end: int) -> _Frame | None:
        """Closes the innermost element, which ends at ``end``; its frame, where it had one."""
        self._check(end)
        if self._below:
            self._below -= 1
            return None
        frame = self._stack.pop()
        if frame.target is not None:
            self._targets.pop()
            self._end_target(frame.target, end)
        return frame

    def _pass_siblings(self, like: _Frame | None, written: tuple[bytes, int], state: State) -> int:
        """Takes, or leaves out, the elements that follow one with nothing between: they match, or do not, as it did.

        ``written``: its name as written, its depth. Returns how many they were.
        """
        places = self._skipper.siblings(self._window, self._at, written, state)
        if not places:
            return 0
        first, run = self._at, self._check(places[-1][1])
        if like is not None and like.target is not None:
            self._take_run(like.target, len(written[0]) + 1, places, (first, run))
        elif like is not None:
            self._stack[-1].counts[like.local] += len(places)
        return len(places)

    def _check(self, end: int) -> bytes:
        """Goes on to ``end``; what is passed is checked by the parser, which tells of no element in it."""
        passed = self._window.slice(self._at, end)
        self._parser.check(passed)
        self._pending.clear()
        self._at = end
        return passed

    def _take_run(self, like: _Target, behind: int, places: Sequence[Place], run: tuple[int, bytes]) -> None:
        """Takes elements beside one that was matched, at ``places`` within ``run``: an offset and the bytes there.

        ``behind`` the ``<name`` of each goes what it has to declare. Nearly every subtree of a large document
        comes this way, so it is written out.
        """
        base, written = run
        parent, local, matched = self._stack[-1], like.node_type, like.matched
        markup = Markup(written, parent.declared)
        index, ordinal, before = parent.counts[local], self._ordinals[matched], f"{parent.path}/{local}["
        largest, shows_places, depth = self._limits.max_subtree_bytes, self._window.has_source_offsets, like.depth
        sources = self._window.source_places(places)
        for number, ((start, stop), source) in enumerate(zip(places, sources, strict=True), self._matched):
            index, ordinal = index + 1, ordinal + 1
            path = f"{before}{index}]"
            xml, size = markup.element(start - base, stop - base, behind)
            if size > largest or (size > MIN_CHARACTERS and markup.has_long_run(start - base, stop - base)):
                around = parent.declared
                self._end_target(
                    _Target(like.path, matched, path, local, ordinal, number, depth, start, source[0], around), stop
                )
            else:
                place = source if shows_places else None
                self._ready.append(Subtree(like.path, path, local, ordinal, number, depth, xml, size, place))
        parent.counts[local], self._ordinals[matched] = index, ordinal
        self._matched += len(places)

    def _let_go(self) -> None:
        """Hands targets that have outgrown a subtree on to their cutters; forgets what nobody needs."""
        keep = max(self._parser.offset, self._window.start)
        for target in self._targets:
            if target.cutter is None and keep - target.start > self._limits.max_subtree_bytes:
                target.cutter, target.fed = self._cutter(target), target.start
            if target.cutter is not None:
                self._feed_cutter(target, target.cutter, keep)
        waiting = [target.start for target in self._targets if target.cutter is None]
        self._window.forget(min([keep, *waiting]))

    # -- what the parser says ------------------------------------------------------------------------------------

    def _on_declaration(self, prefix: str | None, uri: str | None) -> None:
        self._pending[prefix or ""] = uri or ""

    def _on_start(self, name: str, attributes: list[str]) -> None:
        stack = self._stack
        if attributes or len(stack) + self._below > self._deepest:
            self._bound(attributes)
        frame = stack[-1]
        if self._below or not frame.state.places:
            self._below += 1
            self._pending.clear()
            if self._looks:
                self._look_below(name)
            return
        transition = frame.state.transitions.get(name) or self._matcher.transition(frame.state, name)
        local, counts = transition.local, frame.counts
        index = counts[local] = counts.get(local, 0) + 1
        may_repeat = not transition.undecided and len(stack) > 1
        if transition.undecided:
            transition = self._matcher.decide(frame.state, transition, counts, attributes)
        names = self._names_below(frame) if self._pending else (frame.scope, frame.declared)
        opened = _Frame(frame, local, index, transition.state or self._matcher.start, names)
        opened.may_repeat = may_repeat
        stack.append(opened)
        if transition.matched >= 0:
            self._open_target(local, transition.matched)
        elif index >= _REPEATED and may_repeat and name not in self._repeated:
            self._note_repeated(name)
        if self._pending:
            self._pending.clear()

    def _look_below(self, name: str) -> None:
        """An element has started where nothing can match: only whether it repeats is of interest."""
        self._looks -= 1
        level, before = self._below, self._before
        if level <= _LEVELS:
            if before[level] == name and name not in self._repeated:
                self._note_repeated(name)
            before[level], before[level + 1] = name, ""

    def _note_repeated(self, name: str) -> None:
        """An element that no path matches stands beside others like it: they may be left out as a whole."""
        if not self._targets and len(self._repeated) < _MAX_REPEATED:
            self._repeated.add(name)
            self._skipper.expect_repeated(self._window, self._parser.offset)

    def _names_below(self, frame: _Frame) -> tuple[Scope, Declared]:
        scope = widen(frame.scope, self._pending)
        return scope, declarations(scope)

    def _open_target(self, local: str, matched: int) -> None:
        """The namespaces to add are those of the elements around: the element's own stand in its start tag."""
        frame, around = self._stack[-1], self._stack[-2]
        declared = around.declared
        if self._pending:
            declared = declarations({p: u for p, u in around.scope.items() if p not in self._pending})
        self._ordinals[matched] += 1
        start = self._parser.offset
        frame.target = _Target(
            self._matcher.paths[matched],
            matched,
            frame.path,
            local,
            self._ordinals[matched],
            self._matched,
            len(self._stack) - 1,
            start,
            self._window.source_offset(start),
            declared,
        )
        self._matched += 1
        self._targets.append(frame.target)

    def _on_end(self, _name: str) -> None:
        if self._below:
            self._below -= 1
            return
        target = self._stack.pop().target
        if target is not None:
            self._targets.pop()
            self._skipper.expect(self._window, target.start)
            self._end_target(target, self._window.end_of_element(target.start, self._parser.offset))

    def _bound(self, attributes: list[str]) -> None:
        if len(self._stack) + self._below > self._limits.max_depth:
            self._parser.refuse_depth()
        if len(attributes) > 2 * self._limits.max_attributes:
            self._parser.refuse(f"an element has more than {self._limits.max_attributes:,} attributes")

    # -- targets that end ----------------------------------------------------------------------------------------

    def _end_target(self, target: _Target, end: int) -> None:
        if target.cutter is None:
            whole = self._whole(target, end)
            if whole is not None:
                self._ready.append(whole)
                return
            target.cutter, target.fed = self._cutter(target), target.start
        self._feed_cutter(target, target.cutter, end)
        self._ready.append(self._cut(target, target.cutter.finish()))

    def _whole(self, target: _Target, end: int) -> Subtree | None:
        """The target as one subtree; None where it is too large for one, or may hold base64."""
        written = self._window.slice(target.start, end)
        declared = needed(target.declared, written)
        if len(written) + len(declared) > self._limits.max_subtree_bytes or has_long_run(written, 0, len(written)):
            return None
        return self._subtree(target, declare(written, declared), (target.source_start, self._window.source_offset(end)))

    def _cut(self, target: _Target, piece: Piece) -> Subtree:
        place = (target.source_start + piece.start, target.source_start + piece.end)
        return self._subtree(target, piece.xml, place, piece)

    def _subtree(self, target: _Target, xml: bytes, place: tuple[int, int], piece: Piece | None = None) -> Subtree:
        if self._parser.is_unusual:
            self._parser.check_alone(xml)
        return Subtree(
            target.path,
            target.section_path,
            target.node_type,
            target.ordinal,
            target.number,
            target.depth,
            xml.decode("utf-8"),
            len(xml),
            place if self._window.has_source_offsets else None,
            piece.number if piece else 0,
            piece.follows if piece else False,
            piece.shells if piece else {},
        )

    def _cutter(self, target: _Target) -> PieceCutter:
        return PieceCutter(b"".join(target.declared.values()), self._limits, self._document.encoding.width)

    def _feed_cutter(self, target: _Target, cutter: PieceCutter, end: int) -> None:
        for piece in cutter.feed(self._window.slice(target.fed, end)):
            self._ready.append(self._cut(target, piece))
        target.fed = max(end, target.fed)
