"""What proves a fact: the place of its document that it was read from, and where its values stand there."""

from __future__ import annotations

from dataclasses import dataclass

from thresher.bootstrap import Service
from thresher.core.errors import BadInput
from thresher.engine.work import Run
from thresher.persistence.repositories.items import byte_ranges
from thresher.persistence.repositories.node_facts import StoredFact
from thresher.workflows.discovery import SourceDocument, parse_paths, split
from thresher.workflows.discovery.excerpts import Excerpt, excerpt

LARGEST_PART = 32 * 1024 * 1024  # bytes of a subtree before a piece that are read to count its places


@dataclass(frozen=True, slots=True)
class Proof:
    """The excerpt that proves a fact, None where it cannot be shown: ``obstacle`` says why."""

    excerpt: Excerpt | None
    obstacle: str | None = None


def proof_of(service: Service, run: Run, fact: StoredFact) -> Proof:
    """Reads the place of a fact out of the document that is kept, by its position."""
    try:
        document = service.discovery.workflow.document(run)
    except BadInput as error:
        return Proof(None, str(error))
    paths = {value["path"] for value in (*fact.fields, *fact.references)}
    found = byte_ranges(service.db, fact.item_id)
    if found is None:
        return _by_splitting(document, run, fact, paths)
    whole, own = found
    if own.stop - whole.start > LARGEST_PART:
        return Proof(None, "The subtree is too large to be shown here; the paths of the values say where they stand.")
    codec = document.encoding.codec
    before = document.slice(whole.start, own.start).decode(codec, "replace").encode()
    written = document.slice(own.start, own.stop).decode(codec, "replace").encode()
    return Proof(excerpt(before + written, paths, len(before)))


def _by_splitting(document: SourceDocument, run: Run, fact: StoredFact, paths: set[str]) -> Proof:
    """For encodings in which places of bytes are not known: the subtree is looked for from the beginning."""
    wanted = run.options.get("paths")
    texts = [str(path) for path in wanted] if isinstance(wanted, list) else []
    for subtree in split(document, parse_paths(texts), document.limits):
        if subtree.section_path == fact.section_path and subtree.is_whole:
            return Proof(excerpt(subtree.xml.encode(), paths))
    return Proof(
        None, f"In the encoding of this document ({document.encoding.codec}) this piece cannot be found again."
    )
