"""States of what is around runs: documents of batches, notifications."""

from __future__ import annotations

from enum import StrEnum


class DocumentStatus(StrEnum):
    """How far a document of a batch is. ``BEGUN``: it has a run, whose state says the rest."""

    WAITING = "waiting"
    FETCHING = "fetching"
    BEGUN = "begun"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DUPLICATE = "duplicate"


class ChannelKind(StrEnum):
    """How somebody is told."""

    WEBHOOK = "webhook"
    EMAIL = "email"


class DeliveryEvent(StrEnum):
    """What somebody is told of."""

    RUN_ENDED = "run.ended"
    BATCH_ENDED = "batch.ended"
    TEST = "test"


class DeliveryStatus(StrEnum):
    """How far a notification is. ``WAITING``: what it tells of has not happened yet."""

    WAITING = "waiting"
    DUE = "due"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
