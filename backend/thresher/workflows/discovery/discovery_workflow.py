"""XML discovery as a workflow of the engine: subtrees are the items, facts the records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from thresher.core.errors import AnswerTruncated, NothingMatched, PromptTooLong, StateConflict
from thresher.engine.ports import AttemptContext
from thresher.engine.work import Claim, ItemSpec, Mode, NewRun, Outcome, Run
from thresher.llm.client import ModelRequest
from thresher.workflows.discovery.batch_reader import BatchLimits, BatchReader, PromptGroup
from thresher.workflows.discovery.configurations import NodeConfiguration, applicable
from thresher.workflows.discovery.node_facts import NodeFact
from thresher.workflows.discovery.node_reader import Node, NodeReader
from thresher.workflows.discovery.subtrees import (
    Detection,
    Limits,
    Recognition,
    SourceDocument,
    Subtree,
    Survey,
    parse_paths,
    recognise,
    split,
    split_further,
    survey,
)

KIND = "discovery"
WHOLE, PIECE = "subtree", "piece"  # stages: a match (whole, or its first piece), and its further pieces
DEEPEST_SPLIT = 6  # times that a subtree is split because the model's answer was cut
SMALLEST_SPLIT = 96  # bytes

ReaderFactory = Callable[[Run, NodeConfiguration | None], NodeReader]
Locate = Callable[[Run], Path]
StoredNodes = Callable[[str], Sequence[NodeConfiguration]]


def path_of(run: Run) -> Path:
    """Where the document of a run lay when it was begun."""
    return Path(str(run.source["path"]))


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """What is wanted of a document. Without ``paths`` and ``nodes`` the paths are chosen from its structure.

    ``limit`` takes only the first subtrees, in document order. ``name``: what people call the document, where its file
    is named otherwise. ``stored``: configurations that are used where no ``nodes`` are given, as far as they are meant
    for the document (with ``paths``: for these paths); ``uses_stored``: they are looked up when the document is.
    """

    path: Path
    paths: Sequence[str] = ()
    nodes: Sequence[NodeConfiguration] = ()
    limits: Limits = field(default_factory=Limits)
    workspace: str = "default"
    limit: int | None = None
    name: str | None = None
    stored: Sequence[NodeConfiguration] = ()
    uses_stored: bool = False


class DiscoveryWorkflow:
    """Cuts a document into subtrees and reads each; see ``engine.ports.Workflow``.

    ``make_reader`` gives the reader for a run and the configuration of one path (None where there is none),
    ``locate`` says where the document of a run lies now, ``stored`` which node configurations a workspace has.
    """

    kind = KIND

    def __init__(
        self,
        make_reader: ReaderFactory,
        batch_limits: BatchLimits | None = None,
        locate: Locate = path_of,
        stored: StoredNodes = lambda _workspace: (),
    ) -> None:
        self._make_reader = make_reader
        self._locate = locate
        self._stored = stored
        self._batch_limits = batch_limits or BatchLimits()
        self._readers: dict[tuple[str, str], NodeReader] = {}
        self._batch_readers: dict[tuple[str, str], BatchReader] = {}
        self._lock = Lock()  # protects both

    @staticmethod
    def prepare(request: DiscoveryRequest, mode: Mode, mode_reason: str) -> NewRun:
        """Looks at the document and settles what will be read.

        Raises:
            BadInput: the document or a path cannot be used; nothing is stored.
        """
        parse_paths(request.paths)
        document = SourceDocument.open(request.path, request.limits, request.name)
        seen, nodes = _looked_at(document, request)
        paths = list(request.paths) or [node.path for node in nodes]
        if isinstance(seen, Survey):
            paths = [path.text for path in seen.choose_paths()]
        return NewRun(
            kind=KIND,
            workspace=request.workspace,
            source={"path": str(request.path.resolve()), "name": document.name, **_fingerprint(document)},
            options={
                "paths": paths,
                "chosen": not (request.paths or nodes),
                "nodes": [node.model_dump(by_alias=True, exclude_none=True) for node in nodes],
                "limits": asdict(request.limits),
                "limit": request.limit,
            },
            mode=mode,
            mode_reason=mode_reason,
            details={**asdict(seen.detection), "encoding": seen.encoding},
        )

    @staticmethod
    def announce(request: DiscoveryRequest, mode: Mode, mode_reason: str) -> NewRun:
        """A run whose document nobody has looked at yet: ``settle`` does, in the time that it takes.

        Raises:
            BadConfiguration: one of the paths is none.
        """
        parse_paths(request.paths)
        asked: dict[str, Any] = {
            "paths": list(request.paths),
            "nodes": [node.model_dump(by_alias=True, exclude_none=True) for node in request.nodes],
            "stored": request.uses_stored,
        }
        return NewRun(
            kind=KIND,
            workspace=request.workspace,
            source={"name": request.name or request.path.name},
            options={"asked": asked, "limits": asdict(request.limits), "limit": request.limit},
            mode=mode,
            mode_reason=mode_reason,
        )

    @staticmethod
    def is_settled(run: Run) -> bool:
        """Whether the document of a run was looked at, so that its items can be planned."""
        return "asked" not in run.options

    def settle(self, run: Run) -> NewRun:
        """Looks at the document of an announced run, and settles what will be read.

        Raises:
            BadInput: the document or a path cannot be used.
        """
        asked: Any = run.options["asked"]
        request = DiscoveryRequest(
            self._locate(run),
            paths=_texts(asked["paths"]),
            nodes=[NodeConfiguration.model_validate(node) for node in asked["nodes"]],
            stored=self._stored(run.workspace) if asked.get("stored") else (),
            limits=_limits(run),
            workspace=run.workspace,
            limit=run.options["limit"],  # type: ignore[arg-type] # as announce() wrote it
            name=str(run.source["name"]),
        )
        settled = self.prepare(request, run.mode, run.mode_reason)
        found = {key: value for key, value in settled.source.items() if key not in {"path", *run.source}}
        kept = {key: value for key, value in run.options.items() if key != "asked"}
        return replace(
            settled,
            source={**run.source, **found},
            options={**kept, **settled.options},
            provider=run.provider,
            model=run.model,
            priority=run.priority,
            budget=run.budget,
            source_id=run.source_id,
        )

    def document(self, run: Run) -> SourceDocument:
        """The document of a run, as the run began with it.

        Raises:
            StateConflict: it is another one by now.
            BadInput: it cannot be read, or is no longer kept.
        """
        document = SourceDocument.open(self._locate(run), _limits(run), str(run.source["name"]))
        _must_be_the_same(document, run)
        return document

    def plan(self, run: Run) -> Iterator[ItemSpec]:
        """Streams the subtrees of the run's document.

        Raises:
            StateConflict: the document is not the one the run began with.
            NothingMatched: no subtree matches.
            MalformedDocument: the document is broken behind the subtrees that were yielded.
        """
        limits, document = _limits(run), self.document(run)
        texts = _texts(run.options["paths"])
        disabled = {node.path for node in _nodes(run) if not node.enabled}
        found = False
        for subtree in _first(split(document, parse_paths(texts), limits), run.options.get("limit")):
            found = True
            yield _spec(subtree, disabled)
        if not found:
            raise NothingMatched(_no_match(document, texts, limits))

    def prompts(self, run: Run) -> Iterator[tuple[ItemSpec, ModelRequest | None]]:
        """Streams what would be asked about each planned item; None where nothing would be. See ``plan``."""
        for spec in self.plan(run):
            skipped = spec.skip_reason is not None
            yield spec, None if skipped else self._reader(_path(spec), run).question(_node(spec))

    def prompt_groups(self, run: Run, window: int) -> Iterator[PromptGroup]:
        """The same for nodes that are asked about together: packed as they are where ``window`` of them are claimed."""
        planned = self.plan(run)
        while specs := list(islice(planned, window)):
            by_key = {spec.key: spec for spec in specs}
            for spec in specs:
                if spec.skip_reason is not None:
                    yield PromptGroup.skipped(spec)
            open_ones = [_claim(spec, run) for spec in specs if spec.skip_reason is None]
            for group in self.batches(open_ones, run):
                reader = self._batch_reader(_path(group[0]), run)
                yield reader.prompts([by_key[claim.key] for claim in group], [_node(claim) for claim in group])

    def process(self, claim: Claim, context: AttemptContext) -> Outcome:
        """Reads one subtree; one that is too large for the model's answer becomes several."""
        node = _node(claim)
        try:
            fact = self._reader(_path(claim), context.run).read(node, context)
        except (AnswerTruncated, PromptTooLong):
            children = _children(claim, node)
            if not children:
                raise
            return Outcome(result={"facts": 0, "split": len(children)}, children=children)
        return _outcome(fact)

    # -- several at once ------------------------------------------------------------------------------------

    def batch_obstacle(self, run: Run) -> str | None:
        """Why several subtrees are not read by one request, None where they are."""
        client = self._reader("", run).client
        if not client.takes_batches:
            return f"the reader {client.provider} takes one subtree at a time"
        return "BATCH_MAX_ITEMS is 1" if self._batch_limits.max_items == 1 else None

    def batches(self, claims: Sequence[Claim], run: Run) -> Sequence[Sequence[Claim]]:
        """Packs subtrees of the same path, so that prompt and schema are the same."""
        by_path: dict[str, list[Claim]] = {}
        for claim in claims:
            by_path.setdefault(_path(claim), []).append(claim)
        groups = [group for path, some in by_path.items() for group in self._batch_reader(path, run).packed(some)]
        return sorted(groups, key=lambda group: group[0].position)

    def process_batch(
        self, claims: Sequence[Claim], contexts: Sequence[AttemptContext]
    ) -> Sequence[Outcome | Exception]:
        """Reads several subtrees by one request."""
        reader = self._batch_reader(_path(claims[0]), contexts[0].run)
        results = reader.read([_node(claim) for claim in claims], contexts)
        return [result if isinstance(result, Exception) else _outcome(result) for result in results]

    def _batch_reader(self, path: str, run: Run) -> BatchReader:
        key, reader = (run.run_id, path), self._reader(path, run)
        with self._lock:
            if key not in self._batch_readers:
                self._batch_readers[key] = BatchReader(reader, self._batch_limits)
            return self._batch_readers[key]

    def _reader(self, path: str, run: Run) -> NodeReader:
        key = (run.run_id, path)
        reader = self._readers.get(key)
        if reader is not None:
            return reader
        with self._lock:
            if key not in self._readers:
                configuration = next((node for node in _nodes(run) if node.path == key[1]), None)
                self._readers[key] = self._make_reader(run, configuration)
            return self._readers[key]


def _looked_at(
    document: SourceDocument, request: DiscoveryRequest
) -> tuple[Survey | Recognition, Sequence[NodeConfiguration]]:
    """What a document is, and the configurations for it; surveyed where its paths are to be chosen.

    Raises:
        NothingMatched: none of the configurations that were given is meant for it.
    """
    if not (request.paths or request.nodes or request.stored):
        return survey(document, request.limits), ()
    seen = recognise(document, request.limits)
    if request.nodes:
        nodes = applicable(request.nodes, seen.detection)
        if not nodes and not request.paths:
            raise NothingMatched(_no_configuration(document, seen.detection))
        return seen, nodes
    stored = applicable(request.stored, seen.detection)
    if request.paths:
        return seen, [node for node in stored if node.enabled and node.path in request.paths]
    return (seen, stored) if any(node.enabled for node in stored) else (survey(document, request.limits), ())


def subtree_items(subtrees: Iterable[Subtree]) -> Iterator[ItemSpec]:
    """The items of subtrees that were split by the caller."""
    return (_spec(subtree, frozenset()) for subtree in subtrees)


def _first(subtrees: Iterator[Subtree], limit: object) -> Iterator[Subtree]:
    """The first ``limit`` matches (all of them where it is no number); they end in another order where they nest."""
    ended = 0
    for subtree in subtrees:
        if not isinstance(limit, int):
            yield subtree
        elif subtree.target < limit:
            yield subtree
            ended += not subtree.pieces_follow
            if ended == limit:
                return


def _spec(subtree: Subtree, disabled: frozenset[str] | set[str]) -> ItemSpec:
    attributes: dict[str, Any] = {"ordinal": subtree.ordinal, "path": subtree.path.text}
    if subtree.byte_range is not None:
        attributes["bytes"] = list(subtree.byte_range)
    if subtree.shells:
        attributes["shells"] = subtree.shells
    whole = subtree.is_whole
    skip = "disabled by configuration" if subtree.path.text in disabled else None
    return ItemSpec(
        key=subtree.section_path if whole else f"{subtree.section_path}#{subtree.piece}",
        position=(subtree.target,) if whole else (subtree.target, subtree.piece),
        payload=None if skip else subtree.xml.encode(),
        attributes=attributes,
        stage=WHOLE if subtree.piece == 0 else PIECE,
        skip_reason=skip,
    )


def _path(claim: Claim | ItemSpec) -> str:
    return str(claim.attributes.get("path", ""))


def _claim(spec: ItemSpec, run: Run) -> Claim:
    """A planned item as if it was claimed for the first time."""
    return Claim(0, run.run_id, KIND, spec.key, spec.position, spec.stage, spec.payload, spec.attributes, 1, 0, "")


def _outcome(fact: NodeFact) -> Outcome:
    facts = 1 if fact.fields or fact.references else 0
    result = {
        "facts": facts,
        "confidence": fact.confidence,
        "fields": len(fact.fields),
        "grounded": fact.fields_grounded,
    }
    return Outcome(result=result, records=[fact.to_record()] if facts else ())


def _node(claim: Claim | ItemSpec) -> Node:
    section_path = claim.key.partition("#")[0]
    ordinal, shells = claim.attributes.get("ordinal", 1), claim.attributes.get("shells", {})
    return Node(
        xml=(claim.payload or b"").decode(),
        section_path=section_path,
        node_type=section_path.rpartition("/")[2].partition("[")[0],
        ordinal=ordinal if isinstance(ordinal, int) else 1,
        shells=shells,  # type: ignore[arg-type] # as _spec() wrote it
    )


def _children(claim: Claim, node: Node) -> list[ItemSpec]:
    """Halves of a subtree that is too large for the model; empty where it cannot be split further."""
    size = len(node.xml.encode())
    depth = len(claim.position) - 1
    if depth >= DEEPEST_SPLIT or size < SMALLEST_SPLIT:
        return []
    pieces = split_further(node.xml, node.shells, size // 2)
    if len(pieces) < 2:  # one piece is the same again
        return []
    return [
        ItemSpec(
            key=f"{claim.key}#{number}",
            position=(*claim.position, number),
            payload=piece.xml.encode(),
            attributes={**claim.attributes, "shells": piece.shells},
            stage=PIECE,
        )
        for number, piece in enumerate(pieces)
    ]


def _limits(run: Run) -> Limits:
    return Limits(**run.options["limits"])  # type: ignore[arg-type] # as prepare() wrote it


def _nodes(run: Run) -> list[NodeConfiguration]:
    stored = run.options.get("nodes", [])
    return [NodeConfiguration.model_validate(node) for node in stored] if isinstance(stored, Sequence) else []


def _texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, Sequence) else []


# -- the document -------------------------------------------------------------------------------------------

SAMPLE = 4 * 1024 * 1024  # bytes at either end of a document that tell it from others


def _fingerprint(document: SourceDocument) -> dict[str, Any]:
    """Size, and SHA-256 over the first and last bytes: enough to notice another file, quick for any size."""
    digest = hashlib.sha256()
    with document.path.open("rb") as stream:
        digest.update(stream.read(SAMPLE))
        if document.size_bytes > 2 * SAMPLE:
            stream.seek(-SAMPLE, 2)
        digest.update(stream.read(SAMPLE))
    return {"bytes": document.size_bytes, "fingerprint": digest.hexdigest()}


def _must_be_the_same(document: SourceDocument, run: Run) -> None:
    now = _fingerprint(document)
    if any(run.source.get(key) != value for key, value in now.items()):
        raise StateConflict(
            f"{document.name} is not the document that run {run.run_id} began with (it has changed since). "
            "Put the original back and resume, or discover the new one."
        )


def _no_configuration(document: SourceDocument, detection: Detection) -> str:
    parts = (detection.message_root, detection.spec_version, detection.sender)
    found = " ".join(part for part in parts if part)
    return f"No node of the configuration is meant for {document.name} (which is: {found}). Add one, or name --path."


def _no_match(document: SourceDocument, texts: Sequence[str], limits: Limits) -> str:
    wanted = ", ".join(texts)
    known = ", ".join(path.text for path in survey(document, limits).choose_paths()[:5])
    return (
        f"No element of {document.name} matches {wanted}. Paths that do exist: {known}. "
        f"`thresher inspect {document.name}` shows them all."
    )
