"""Keys to workspaces: made, listed, revoked."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from thresher.bootstrap import open_database
from thresher.cli.failures import say
from thresher.core.config import Settings
from thresher.persistence.repositories.api_keys import ApiKey, NewKey, create_key, list_keys, revoke_key


def create(settings: Settings, new: NewKey, *, as_json: bool) -> None:
    """Makes a key and prints its secret on stdout, this once."""
    with open_database(settings) as db:
        key, secret = create_key(db, new)
    if as_json:
        sys.stdout.write(json.dumps({**_object(key), "secret": secret}) + "\n")
        return
    until = f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "until it is revoked"
    say(f"Key {key.key_id} to the workspace {key.workspace!r}, to {key.role}, {until}. Keep it: it is shown only once.")
    sys.stdout.write(secret + "\n")


def list_all(settings: Settings, workspace: str | None, *, as_json: bool) -> None:
    """Prints the keys, of one workspace or of all, without their secrets."""
    with open_database(settings) as db:
        keys = list_keys(db, workspace)
    if as_json:
        sys.stdout.write(json.dumps([_object(key) for key in keys]) + "\n")
        return
    console = Console(highlight=False)
    if not keys:
        console.print("No keys yet: `thresher keys create NAME` makes one.", markup=False)
        return
    console.print(_table(keys))


def revoke(settings: Settings, key_id: str) -> None:
    """Makes a key open nothing any more.

    Raises:
        NotFound: there is none of this identifier.
    """
    with open_database(settings) as db:
        revoke_key(db, key_id)
    say(f"Key {key_id} opens nothing any more.")


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "begins with", "name", "workspace", "role", "state", "last used"):
        table.add_column(column, no_wrap=column in ("key", "begins with"))
    for key in keys:
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
        table.add_row(key.key_id, key.beginning, key.name, key.workspace, key.role.value, _state(key), used)
    return table


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at is None:
        return "valid"
    return f"{'valid until' if key.is_valid(datetime.now(UTC)) else 'expired'} {key.expires_at:%Y-%m-%d}"


def _object(key: ApiKey) -> dict[str, object]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(key).items()}
