"""What somebody may do in a workspace."""

from __future__ import annotations

from enum import StrEnum

DEFAULT_WORKSPACE = "default"


class Role(StrEnum):
    """What a key lets its holder do: look at everything of its workspace, or also change it."""

    READ = "read"
    WRITE = "write"
