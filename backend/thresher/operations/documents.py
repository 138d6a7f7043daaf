"""Documents before a run: what they are, what would be read of them, what that would take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from thresher.bootstrap import Rehearsal, Service, choose_mode, make_limits, make_silent_client
from thresher.operations.runs import RunOptions, requested
from thresher.persistence.repositories.sources import Source
from thresher.workflows.discovery import DiscoveryWorkflow, SourceDocument, survey
from thresher.workflows.discovery.configurations import applicable
from thresher.workflows.discovery.stored_configurations import stored_nodes


def analyse(service: Service, source: Source, name: str | None = None) -> dict[str, Any]:
    """What a document is, its paths with counts and sizes, and what would be read of it.

    The keys are those of ``Survey.to_dict``, ``source_id``, ``nodes`` (the node configurations of the workspace that
    are meant for it) and ``would_read``: the paths that a run without further options reads.

    Raises:
        BadInput: it cannot be read, or is no longer kept.
    """
    limits, called = make_limits(service.settings), name or source.name
    path = service.files.find(source.sha256, called)
    seen = survey(SourceDocument.open(path, limits, called), limits)
    nodes = applicable(stored_nodes(service.db, source.workspace), seen.detection)
    configured = [node.path for node in nodes if node.enabled]
    found = seen.to_dict()
    return {
        "source_id": source.source_id,
        **found,
        "nodes": [node.model_dump(by_alias=True, exclude_none=True) for node in nodes],
        "would_read": configured or found["chosen"],
    }


def estimate(service: Service, source: Source, options: RunOptions) -> dict[str, Any]:
    """What a run would take: its prompts are built, measured and thrown away; nothing is sent, nothing is stored.

    The keys are those of ``Estimate.to_dict``, and ``provider``, ``model``, ``paths``.

    Raises:
        BadInput: the document cannot be read to its end, or no subtree matches.
    """
    settings = service.settings
    wish = choose_mode(settings, given=options.mode)
    request = replace(
        requested(service, source, options),
        path=service.files.find(source.sha256, source.name),
        stored=stored_nodes(service.db, source.workspace) if options.uses_stored else (),
    )
    new = DiscoveryWorkflow.prepare(request, wish.at_first, wish.reason)
    rehearsal = Rehearsal(settings, make_silent_client(settings), service.db, service.discovery.answers)
    made = rehearsal.estimate(new, wish)
    client = rehearsal.client
    return {"provider": client.provider, "model": client.model, "paths": new.options["paths"], **made.to_dict()}
