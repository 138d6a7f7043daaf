"""Writes synthetic NDC messages."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from thresher.cli.failures import say
from thresher.cli.files import written_whole
from thresher.workflows.discovery.sample_messages import (
    MessageName,
    MessageVersion,
    SampleSpec,
    parse_size,
    write_sample,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was asked for on the command line."""

    message: str
    version: str
    size: str
    seed: int


def write(sample: Sample, output: Path | None) -> None:
    """Writes a sample to a file (whole or not at all) or to stdout.

    Raises:
        BadConfiguration: there is no such message, version or size.
    """
    spec = SampleSpec(
        message=cast("MessageName", sample.message),  # checked by SampleSpec
        version=cast("MessageVersion", sample.version),
        seed=sample.seed,
        size_bytes=parse_size(sample.size),
    )
    if output is None:
        write_sample(spec, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with written_whole(output) as stream:
        written = write_sample(spec, stream)
    say(f"{output}: {written:,} bytes of {spec.message} {spec.version}, seed {spec.seed}.")
