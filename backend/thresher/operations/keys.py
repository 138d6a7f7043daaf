"""Keys to a workspace, made and revoked by those who are in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from thresher.bootstrap import Service
from thresher.core.access import Role
from thresher.core.errors import BadInput, NotFound
from thresher.operations.access import Principal
from thresher.persistence.repositories.api_keys import ApiKey, NewKey, create_key, get_key, revoke_key

LONGEST_NAME = 200
MOST_DAYS = 3_650


@dataclass(frozen=True, slots=True)
class KeyWish:
    """A key that is wanted; ``days`` None: it does not expire."""

    name: str
    role: Role
    days: int | None = None


def create(service: Service, maker: Principal, wish: KeyWish) -> tuple[ApiKey, str]:
    """Makes a key to the maker's workspace; returns it with its secret, which nobody can tell again.

    A key that is made with another one does not open more than that: it ends with it at the latest, and has its limits.

    Raises:
        BadInput: name or days are unusable.
        Forbidden: the maker may only read.
    """
    maker.require(Role.WRITE)
    if not 1 <= len(wish.name) <= LONGEST_NAME:
        raise BadInput(f"A key needs a name of 1 to {LONGEST_NAME} characters, which says who uses it for what.")
    if wish.days is not None and not 1 <= wish.days <= MOST_DAYS:
        raise BadInput(f"A key is valid for 1 to {MOST_DAYS:,} days, or until it is revoked.")
    ends = None if wish.days is None else datetime.now(UTC) + timedelta(days=wish.days)
    own = maker.key
    if own is not None and own.expires_at is not None:
        ends = own.expires_at if ends is None else min(ends, own.expires_at)
    limits = (None, None) if own is None else (own.requests_per_minute, own.max_upload_bytes)
    return create_key(service.db, NewKey(maker.workspace, wish.name, wish.role, ends, *limits))


def revoke(service: Service, principal: Principal, key_id: str) -> None:
    """Makes a key of the workspace open nothing any more.

    Raises:
        NotFound: the workspace has no such key.
        Forbidden: who asks may only read.
    """
    principal.require(Role.WRITE)
    key = get_key(service.db, key_id)
    if key is None or key.workspace != principal.workspace:
        raise NotFound(f"No key is named {key_id!r}.")
    revoke_key(service.db, key_id)
