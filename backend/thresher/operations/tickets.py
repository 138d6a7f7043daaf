"""Tickets: they let somebody look on once, where no key can be sent (a browser's WebSocket has no headers)."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from thresher.bootstrap import Service
from thresher.core.access import Role
from thresher.core.errors import NotFound, Unauthenticated
from thresher.operations.access import Doorkeeper, Principal
from thresher.persistence.repositories.api_keys import get_key

LIFETIME = 30.0  # seconds
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket and when it expires."""

    token: str
    expires_at: datetime


class Tickets:
    """Gives out tickets and takes them; each opens its holder's workspace once, to read, on any server.

    They are files in the data folder, which all servers on one database share: who removes one has used it. A file is
    named by a hash, so that who can list the folder can use none.
    """

    def __init__(self, service: Service, doorkeeper: Doorkeeper) -> None:
        self._service = service
        self._doorkeeper = doorkeeper
        self._folder = service.settings.data_dir.absolute() / "tickets"

    def issue(self, principal: Principal) -> Ticket:
        """A new ticket for who asks; those that were never used are cleared away."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._clear()
        token = secrets.token_urlsafe(_SECRET_BYTES)
        expires_at = datetime.now(UTC) + timedelta(seconds=LIFETIME)
        holder = {
            "workspace": principal.workspace,
            "key_id": principal.key.key_id if principal.key else None,
            "expires_at": expires_at.timestamp(),
        }
        self._place(token).write_text(json.dumps(holder), encoding="utf-8")
        return Ticket(token, expires_at)

    def redeem(self, token: str, workspace: str | None) -> Principal:
        """Who holds a ticket, which is used up by that.

        Raises:
            Unauthenticated: there is no such ticket, or not any more; or its holder's key opens nothing any more.
            NotFound: it is for another workspace.
        """
        place = self._place(token)
        try:
            holder = json.loads(place.read_text(encoding="utf-8"))
            place.unlink()
        except FileNotFoundError:
            holder = {"expires_at": 0.0}
        if holder["expires_at"] < time.time():
            raise Unauthenticated("This ticket was used, or is too old. Ask for a new one at /api/v1/tickets.")
        if workspace is not None and workspace != holder["workspace"]:
            raise NotFound(f"This ticket opens no workspace {workspace!r}.")
        return self._principal(holder["workspace"], holder["key_id"])

    def _principal(self, workspace: str, key_id: str | None) -> Principal:
        if key_id is None:
            return replace(self._doorkeeper.admit(None, workspace), role=Role.READ)
        key = get_key(self._service.db, key_id)
        if key is None or not key.is_valid(datetime.now(UTC)):
            raise Unauthenticated("The key of this ticket is not valid any more. Ask for a new one.")
        return Principal(workspace, Role.READ, key)

    def _place(self, token: str) -> Path:
        return self._folder / hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()

    def _clear(self) -> None:
        for ticket in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - ticket.stat().st_mtime > LIFETIME:
                    ticket.unlink()
