"""Places in lists of items as text that is handed out and comes back: cursors."""

from __future__ import annotations

import re

from thresher.core.errors import BadInput

_WRITTEN = re.compile(r"(\d*)-(\d{1,18})")


def cursor_of(place: tuple[str, int]) -> str:
    """An item's place, for the address of the page behind it."""
    return f"{place[0]}-{place[1]}"


def place_of(cursor: str | None) -> tuple[str, int] | None:
    """The place that a cursor names; None of None: the beginning.

    Raises:
        BadInput: it is no cursor of such a list.
    """
    if cursor is None:
        return None
    found = _WRITTEN.fullmatch(cursor)
    if found is None:
        raise BadInput("This cursor is none of this list: take `next` of the page before.")
    return found[1], int(found[2])
