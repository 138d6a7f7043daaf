"""Channels: how somebody is told that a run or a batch has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from thresher.core.errors import NotFound, StateConflict
from thresher.core.jobs import ChannelKind
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.sortable_ids import SortableIds
from thresher.persistence.tables import ChannelRow

CHANNELS: Final[sa.Table] = sa.Table(ChannelRow.__tablename__, ChannelRow.metadata)
_channel = CHANNELS.c
_ids = SortableIds("c")


@dataclass(frozen=True, slots=True)
class NewChannel:
    """A channel to be. ``target``: the address of a webhook or of a mailbox. ``is_always``: of all that ends."""

    name: str
    kind: ChannelKind
    target: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)
    is_always: bool = False
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as it is stored. ``target`` and ``secret`` are never shown and never logged."""

    channel_id: str
    workspace: str
    name: str
    kind: ChannelKind
    target: str = field(repr=False)
    secret: str | None = field(repr=False)
    is_always: bool
    is_enabled: bool
    created_at: datetime


def create_channel(db: ThreadSafeDatabaseManager, workspace: str, new: NewChannel) -> Channel:
    """Stores a channel.

    Raises:
        StateConflict: the workspace has one of this name.
    """
    now = datetime.now(UTC)
    row = {"id": _ids.new(now), "workspace": workspace, **_values(new), "created_at": now}
    try:
        db.write_with_lock(lambda session: session.connection().execute(CHANNELS.insert(), row) and None)
    except IntegrityError as error:
        raise _taken(new) from error
    return get_channel(db, workspace, str(row["id"]))


def replace_channel(db: ThreadSafeDatabaseManager, channel: Channel, new: NewChannel) -> Channel:
    """Changes a channel.

    Raises:
        StateConflict: another one has this name.
    """
    update = CHANNELS.update().where(_channel.id == channel.channel_id).values(_values(new))
    try:
        db.write_with_lock(lambda session: session.connection().execute(update) and None)
    except IntegrityError as error:
        raise _taken(new) from error
    return get_channel(db, channel.workspace, channel.channel_id)


def get_channel(db: ThreadSafeDatabaseManager, workspace: str, name: str) -> Channel:
    """A channel of a workspace by its identifier or its name.

    Raises:
        NotFound: it has none.
    """
    named = sa.or_(_channel.id == name, _channel.name == name)
    query = sa.select(CHANNELS).where(_channel.workspace == workspace, named)
    with db.read() as session:
        rows = session.execute(query.order_by(_channel.id != name).limit(1)).all()
    if not rows:
        raise NotFound(f"No channel is named {name!r}.")
    return channel_of(rows[0])


def list_channels(
    db: ThreadSafeDatabaseManager, workspace: str, limit: int, after: str | None = None
) -> Sequence[Channel]:
    """A page of the channels of a workspace, the oldest first, behind the one with the identifier ``after``."""
    query = sa.select(CHANNELS).where(_channel.workspace == workspace, _channel.id > (after or ""))
    with db.read() as session:
        return [channel_of(row) for row in session.execute(query.order_by(_channel.id).limit(limit))]


def delete_channel(db: ThreadSafeDatabaseManager, channel: Channel) -> None:
    """Deletes a channel with its deliveries."""
    delete = CHANNELS.delete().where(_channel.id == channel.channel_id)
    db.write_with_lock(lambda session: session.connection().execute(delete) and None)


def channel_of(row: Sequence[Any]) -> Channel:
    """A channel of the values of its columns."""
    channel_id, workspace, name, kind, *rest = row
    return Channel(channel_id, workspace, name, ChannelKind(kind), *rest)


def _values(new: NewChannel) -> dict[str, Any]:
    named = ("name", "target", "secret", "is_always", "is_enabled")
    return {**{name: getattr(new, name) for name in named}, "kind": new.kind.value}


def _taken(new: NewChannel) -> StateConflict:
    return StateConflict(f"There is a channel named {new.name!r}: change that one, or choose another name.")
