"""Signed messages to other people's servers, as the Standard Webhooks specification has them."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from standardwebhooks import Webhook

from thresher.core.errors import BadInput

PREFIX = "whsec_"
_BYTES = 32  # of a new secret
_FEWEST, _MOST = 24, 64  # bytes of a secret that somebody gives, as the specification asks


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: the same identifier and words at each try, so that receivers can tell repetitions."""

    message_id: str
    payload: Mapping[str, Any]
    secret: str = field(repr=False)

    def body(self) -> bytes:
        """The words, as they are signed."""
        return json.dumps(self.payload, ensure_ascii=False, separators=(",", ":")).encode()

    def headers(self, now: datetime) -> dict[str, str]:
        """The signature (HMAC-SHA256) over identifier, time of this try and words."""
        signature = Webhook(self.secret).sign(self.message_id, now, self.body().decode())
        return {
            "Content-Type": "application/json",
            "webhook-id": self.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }


def new_secret() -> str:
    """A secret that nobody knows yet."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def check_secret(secret: str) -> str:
    """A secret that somebody gives.

    Raises:
        BadInput: it is none; the message does not repeat it.
    """
    try:
        size = len(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
    except ValueError as error:
        raise BadInput(f"The secret is none: {PREFIX} and {_FEWEST} to {_MOST} bytes in base64.") from error
    if not _FEWEST <= size <= _MOST:
        raise BadInput(f"The secret has {size} bytes: it needs {_FEWEST} to {_MOST}, in base64.")
    return secret
