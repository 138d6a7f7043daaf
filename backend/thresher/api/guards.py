"""What stands before everything that is served, the API and the pages alike."""

from __future__ import annotations

from starlette.types import ASGIApp

from thresher.api.bounds import Bounds
from thresher.api.same_origin import OwnNames, SameOrigin
from thresher.core.config import Settings


def guarded(app: ASGIApp, settings: Settings, *, is_public: bool) -> ASGIApp:
    """The application behind its guards; ``is_public``: see ``OwnNames``."""
    names = OwnNames(settings.serve_allowed_hosts or (), is_public=is_public)
    return Bounds(SameOrigin(app, names), settings.max_body_bytes)
