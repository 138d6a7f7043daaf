"""A document of our own making, for who has none at hand."""

from __future__ import annotations

from thresher.bootstrap import Service
from thresher.operations.sources import keep_source
from thresher.persistence.repositories.sources import Source
from thresher.workflows.discovery.sample_messages import SampleSpec, write_sample

SAMPLE = SampleSpec(size_bytes=100_000)


def keep_sample(service: Service, workspace: str) -> Source:
    """Keeps the sample document: an order of an airline in which nobody and nothing is real; always the same."""
    with service.files.receive() as document:
        write_sample(SAMPLE, document)
        return keep_source(service, workspace, document, f"{SAMPLE.message}_{SAMPLE.version}_sample.xml")
