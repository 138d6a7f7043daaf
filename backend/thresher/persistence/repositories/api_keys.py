"""Keys to workspaces. Of a secret only its SHA-256 is stored: it is long and random, and needs no slower hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from thresher.core.access import Role
from thresher.core.errors import NotFound
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.sortable_ids import SortableIds
from thresher.persistence.tables import ApiKeyRow

PREFIX = "thr_"
_SECRET_BYTES = 32
_SHOWN = len(PREFIX) + 4  # characters of a secret that are stored, to tell keys apart

_KEYS: Final[sa.Table] = sa.Table(ApiKeyRow.__tablename__, ApiKeyRow.metadata)
_key = _KEYS.c
_ids = SortableIds("k")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made; what is None is as the server is set, ``expires_at`` None: never."""

    workspace: str
    name: str
    role: Role
    expires_at: datetime | None = None
    requests_per_minute: int | None = None
    max_upload_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored. ``beginning``: the first characters of its secret."""

    key_id: str
    workspace: str
    name: str
    role: Role
    beginning: str
    requests_per_minute: int | None
    max_upload_bytes: int | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


_COLUMNS = [_key[name if name != "key_id" else "id"] for name in ApiKey.__dataclass_fields__]


def create_key(db: ThreadSafeDatabaseManager, new: NewKey) -> tuple[ApiKey, str]:
    """Makes a key; returns it with its secret, which nobody can tell again."""
    now = datetime.now(UTC)
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    row: dict[str, Any] = {
        "id": _ids.new(now),
        "workspace": new.workspace,
        "name": new.name,
        "role": new.role.value,
        "digest": _digest(secret),
        "beginning": secret[:_SHOWN],
        "requests_per_minute": new.requests_per_minute,
        "max_upload_bytes": new.max_upload_bytes,
        "created_at": now,
        "expires_at": new.expires_at,
    }
    db.write_with_lock(lambda session: session.connection().execute(_KEYS.insert(), row) and None)
    with db.read() as session:
        return _api_key(session.execute(sa.select(*_COLUMNS).where(_key.id == row["id"])).one()), secret


def find_key(db: ThreadSafeDatabaseManager, secret: str) -> ApiKey | None:
    """The key with this secret, valid or not; None where there is none."""
    with db.read() as session:
        row = session.execute(sa.select(*_COLUMNS).where(_key.digest == _digest(secret))).one_or_none()
    return None if row is None else _api_key(row)


def get_key(db: ThreadSafeDatabaseManager, key_id: str) -> ApiKey | None:
    """The key with this identifier, valid or not; None where there is none."""
    with db.read() as session:
        row = session.execute(sa.select(*_COLUMNS).where(_key.id == key_id)).one_or_none()
    return None if row is None else _api_key(row)


def any_key(db: ThreadSafeDatabaseManager) -> bool:
    """Whether there is or ever was a key: then nobody gets in without one, also when all are revoked or expired."""
    with db.read() as session:
        return session.execute(sa.select(_key.id).limit(1)).first() is not None


def list_keys(db: ThreadSafeDatabaseManager, workspace: str | None = None) -> Sequence[ApiKey]:
    """All keys, of one workspace or of all, the oldest first."""
    query = sa.select(*_COLUMNS).order_by(_key.id)
    if workspace is not None:
        query = query.where(_key.workspace == workspace)
    with db.read() as session:
        return [_api_key(row) for row in session.execute(query)]


def revoke_key(db: ThreadSafeDatabaseManager, key_id: str) -> None:
    """Makes a key open nothing any more, from now on and for good.

    Raises:
        NotFound: no key has this identifier.
    """
    revoked = sa.func.coalesce(_key.revoked_at, sa.literal(datetime.now(UTC), _key.revoked_at.type))
    update = _KEYS.update().where(_key.id == key_id).values(revoked_at=revoked)
    if not db.write_with_lock(lambda session: session.connection().execute(update).rowcount):
        raise NotFound(f"No key is named {key_id!r}.").with_hint("`thresher keys list` lists them.")


def note_use(db: ThreadSafeDatabaseManager, key_id: str, now: datetime) -> None:
    """Remembers when a key was used last."""
    update = _KEYS.update().where(_key.id == key_id).values(last_used_at=now)
    db.write_with_lock(lambda session: session.connection().execute(update) and None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _api_key(row: sa.Row[Any]) -> ApiKey:
    values: tuple[Any, ...] = tuple(row)
    key_id, workspace, name, role, *rest = values
    return ApiKey(key_id, workspace, name, Role(role), *rest)
