"""Visits: a signed cookie says which key somebody has signed in with, and proves that a form is one of ours."""

from __future__ import annotations

import hmac
import os
import secrets
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

COOKIE = "thresher_visit"
LASTS = 12 * 3600  # seconds
_SECRET_FILE = "pages.key"  # noqa: S105 # a file's name
_SECRET_BYTES = 32
_NOBODY = "-"


@dataclass(frozen=True, slots=True)
class Visit:
    """One browser's visit. ``key_id`` None: without a key. ``expires_at``: seconds since 1970."""

    visit_id: str
    key_id: str | None
    expires_at: int

    @property
    def is_ageing(self) -> bool:
        """Whether more than half of it is over, so that the cookie should be renewed."""
        return self.expires_at - time.time() < LASTS / 2


class VisitBook:
    """Begins visits and knows them again; all servers that share a data folder know the same ones."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def begin(key_id: str | None = None) -> Visit:
        """A new visit."""
        return Visit(secrets.token_urlsafe(16), key_id, int(time.time()) + LASTS)

    @staticmethod
    def renewed(visit: Visit) -> Visit:
        """The same visit, which lasts longer: forms that are open stay valid."""
        return Visit(visit.visit_id, visit.key_id, int(time.time()) + LASTS)

    def written(self, visit: Visit) -> str:
        """A visit as the value of a cookie."""
        text = f"{visit.visit_id}.{visit.key_id or _NOBODY}.{visit.expires_at}"
        return f"{text}.{self._mac('visit', text)}"

    def read(self, cookie: str | None) -> Visit | None:
        """The visit of a cookie; None where it is none of ours, or is over."""
        text, _, mac = (cookie or "").rpartition(".")
        if not text.isascii() or not mac.isascii() or not hmac.compare_digest(mac, self._mac("visit", text)):
            return None
        visit_id, key_id, expires_at = text.split(".")
        visit = Visit(visit_id, None if key_id == _NOBODY else key_id, int(expires_at))
        return visit if visit.expires_at > time.time() else None

    def token(self, visit: Visit) -> str:
        """What the forms of a visit carry, and nobody else can know."""
        return self._mac("form", f"{visit.visit_id}.{visit.key_id or _NOBODY}")

    def is_token(self, visit: Visit, given: str) -> bool:
        """Whether a form belongs to a visit."""
        return given.isascii() and hmac.compare_digest(given, self.token(visit))

    def _mac(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._secret, f"{purpose}:{text}".encode(), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


def secret_in(folder: Path) -> bytes:
    """The secret that cookies are signed with: made once, kept in the data folder, readable by its owner only."""
    place = folder.absolute() / _SECRET_FILE
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f"{_SECRET_FILE}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(_SECRET_BYTES))
        with suppress(FileExistsError):  # another server was quicker
            os.link(new, place)
        new.unlink()
    return place.read_bytes()
