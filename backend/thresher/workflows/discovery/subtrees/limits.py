"""The bounds within which a document is read."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one document may cost.

    All sizes are bytes. ``max_document_bytes`` counts after inflating. ``max_subtree_bytes`` bounds one yielded
    subtree: a larger one is split, never refused. ``max_token_bytes`` bounds one tag, comment or processing
    instruction. ``max_inflation_ratio`` (inflated / packed) applies once ``inflation_grace_bytes`` have been
    inflated; deflate itself cannot pass 1,032. ``max_names`` bounds the distinct element names of a document.
    """

    max_document_bytes: int = 16 * 1024 * MEBIBYTE
    max_subtree_bytes: int = 32_768
    max_depth: int = 256
    max_attributes: int = 1_024
    max_token_bytes: int = 10 * MEBIBYTE
    max_inflation_ratio: float = 200.0
    inflation_grace_bytes: int = 16 * MEBIBYTE
    max_names: int = 50_000
    max_attribute_defaults: int = 1_000
    max_default_bytes: int = 16_384
