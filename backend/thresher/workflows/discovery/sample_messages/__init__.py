"""Synthetic NDC messages of our own making: seeded, of any size, streamed; nobody and nothing in them is real."""

from thresher.workflows.discovery.sample_messages.sample import (
    MessageName,
    MessageVersion,
    SampleSpec,
    Writable,
    expected_counts,
    write_sample,
)
from thresher.workflows.discovery.sample_messages.sizes import parse_size

__all__ = ["MessageName", "MessageVersion", "SampleSpec", "Writable", "expected_counts", "parse_size", "write_sample"]
