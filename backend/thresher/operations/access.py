"""Who asks, and what they may do: keys to workspaces, or, without any key, whoever is at this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

from thresher.bootstrap import Service
from thresher.core.access import DEFAULT_WORKSPACE, Role
from thresher.core.errors import BadConfiguration, Forbidden, NotFound, TooManyRequests, Unauthenticated
from thresher.persistence.repositories.api_keys import ApiKey, any_key, find_key, get_key, note_use

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_NOTED_EVERY = 60.0  # seconds between two writes of when a key was used last
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the holder of a key, or (``key`` None) somebody at this machine while there are no keys."""

    workspace: str
    role: Role
    key: ApiKey | None = None

    def require(self, role: Role) -> None:
        """Refuses who may only read.

        Raises:
            Forbidden: writing is wanted, and the key does not allow it.
        """
        if role is Role.WRITE and self.role is not Role.WRITE:
            raise Forbidden("This key may only read. Use a key with the role write.")


def check_address(service: Service, host: str) -> None:
    """Lets nobody but this machine in while no keys are configured.

    Raises:
        BadConfiguration: the address can be reached from elsewhere, and there is no key.
    """
    if host not in LOOPBACK and not any_key(service.db):
        raise BadConfiguration(
            f"Without any key the server listens to this machine only, not on {host}: make one with "
            "`thresher keys create NAME`, or leave SERVE_HOST at 127.0.0.1."
        )


class Doorkeeper:
    """Tells who asks, and counts how often. Safe to use from any thread.

    ``is_public``: the server can be reached from other machines, so that a key is needed whatever happens to the keys.
    """

    def __init__(self, service: Service, *, is_public: bool) -> None:
        self._service = service
        self._is_public = is_public
        self._rates = Rates()
        self._lock = Lock()  # protects _noted
        self._noted: dict[str, float] = {}

    def admit(self, secret: str | None, workspace: str | None) -> Principal:
        """Who comes with a secret (None: with none), for a workspace (None: the one of the key, or ``default``).

        Raises:
            Unauthenticated: a key is needed, and this is none, or none any more.
            NotFound: the key is for another workspace.
            TooManyRequests: the key was used too often in the last minute.
        """
        if secret is None:
            return self._without_key(workspace)
        key = self._valid(find_key(self._service.db, secret), "")
        if workspace is not None and workspace != key.workspace:
            raise NotFound(f"This key opens no workspace {workspace!r}. Leave the workspace out, or use its own key.")
        return Principal(key.workspace, key.role, key)

    def admit_holder(self, key_id: str | None) -> Principal:
        """Who has signed in to the pages with a key (None: with none); its rate is counted beside that of the API.

        Raises:
            Unauthenticated: a key is needed, and this is none, or none any more.
            TooManyRequests: the pages were used too often in the last minute.
        """
        if key_id is None:
            return self._without_key(None)
        key = self._valid(get_key(self._service.db, key_id), "pages ")
        return Principal(key.workspace, key.role, key)

    def _valid(self, key: ApiKey | None, counted_as: str) -> ApiKey:
        now = datetime.now(UTC)
        if key is None or not key.is_valid(now):
            raise Unauthenticated("This key is not valid, or not any more. Ask for a new one.")
        per_minute = key.requests_per_minute or self._service.settings.api_requests_per_minute
        self._rates.count(f"{counted_as}{key.key_id}", per_minute)
        self._note_use(key, now)
        return key

    def _without_key(self, workspace: str | None) -> Principal:
        if self._is_public or any_key(self._service.db):
            raise Unauthenticated("A key is needed: send it as `Authorization: Bearer thr_...`.")
        return Principal(workspace or DEFAULT_WORKSPACE, Role.WRITE)

    def _note_use(self, key: ApiKey, now: datetime) -> None:
        """Once a minute and not at every request: it is a write."""
        moment = time.monotonic()
        with self._lock:
            last = self._noted.get(key.key_id)
            if last is not None and moment - last < _NOTED_EVERY:
                return
            self._noted[key.key_id] = moment
        note_use(self._service.db, key.key_id, now)


class Rates:
    """How often each key was used. A minute's worth may come at once (the generic cell rate algorithm, ITU-T I.371)."""

    def __init__(self) -> None:
        self._lock = Lock()  # protects _due
        self._due: dict[str, float] = {}  # when all that was asked for so far would have been due, evenly spread

    def count(self, key_id: str, per_minute: int) -> None:
        """Counts one request.

        Raises:
            TooManyRequests: it is one too many; it does not count.
        """
        now = time.monotonic()
        with self._lock:
            due = max(self._due.get(key_id, now), now) + _MINUTE / per_minute
            early = due - now - _MINUTE
            if early <= 0:
                self._due[key_id] = due
                return
        raise TooManyRequests(
            f"This key may be used {per_minute} times a minute. Ask again in {early:.1f} seconds.", retry_after=early
        )
