"""Channels and deliveries: who is told of what, and how that went."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from thresher.api.schemas.templates import Name
from thresher.core.jobs import ChannelKind, DeliveryStatus
from thresher.core.text import StorableText
from thresher.operations.notifications import shown_target
from thresher.persistence.repositories.channels import Channel, NewChannel
from thresher.persistence.repositories.deliveries import Delivery, DeliveryFilter


class ChannelIn(BaseModel):
    """A channel to be."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "our-server", "kind": "webhook", "target": "https://example.com/hooks/thresher"}]
        },
    )

    name: Name
    kind: ChannelKind
    target: StorableText = Field(
        max_length=2_000, description="The address of a webhook (https), or an e-mail address."
    )
    secret: SecretStr | None = Field(
        default=None, description="Signs webhooks: `whsec_` and base64. Without one a new one is made."
    )
    always: bool = Field(default=False, description="Told of all runs and batches of the workspace, named or not.")
    enabled: bool = True

    def new(self) -> NewChannel:
        """The same, for the operations."""
        secret = None if self.secret is None else self.secret.get_secret_value()
        return NewChannel(self.name, self.kind, self.target, secret, self.always, self.enabled)


class ChannelOut(BaseModel):
    """A channel as it is stored, without its secret."""

    channel_id: str
    name: str
    kind: ChannelKind
    target: str = Field(description="An e-mail address, or the host of a webhook: its path may be a secret.")
    always: bool
    enabled: bool
    created_at: datetime

    @classmethod
    def of(cls, channel: Channel) -> Self:
        """A channel as it is stored."""
        return cls(
            target=shown_target(channel),
            always=channel.is_always,
            enabled=channel.is_enabled,
            **{name: getattr(channel, name) for name in ("channel_id", "name", "kind", "created_at")},
        )


class NewChannelOut(ChannelOut):
    """A channel that was just made."""

    secret: str | None = Field(default=None, description="What signs its messages; nobody can see it again.")


class DeliveryOut(BaseModel):
    """A notification, and how it went."""

    delivery_id: str = Field(description="The `webhook-id` of the message, the same at each try.")
    channel_id: str
    event: str = Field(description="run.ended, batch.ended or test.")
    run_id: str | None
    batch_id: str | None
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    http_status: int | None
    error: str | None
    payload: dict[str, Any] | None
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """A notification as it is stored."""
        return cls.model_validate({name: getattr(delivery, name) for name in cls.model_fields})


class DeliveriesQuery(BaseModel):
    """Which notifications are listed."""

    status: DeliveryStatus | None = None
    channel_id: str | None = None
    run_id: str | None = None
    batch_id: str | None = None

    def filter(self) -> DeliveryFilter:
        """The same, for the repository."""
        return DeliveryFilter(self.status, self.channel_id, self.run_id, self.batch_id)
