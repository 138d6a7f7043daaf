"""Values out of the fields of a form."""

from __future__ import annotations

from thresher.core.errors import BadInput
from thresher.web.deps import Fields


def one(fields: Fields, name: str) -> str:
    """The last value of a field, without blanks around it; empty where there is none."""
    return fields.get(name, [""])[-1].strip()


def required(fields: Fields, name: str, message: str) -> str:
    """The same of a field that must not be empty.

    Raises:
        BadInput: it is; with this message.
    """
    value = one(fields, name)
    if not value:
        raise BadInput(message)
    return value


def days(fields: Fields, name: str) -> int | None:
    """A number of days; None where the field is empty.

    Raises:
        BadInput: it is no number.
    """
    text = one(fields, name)
    if text and not (text.isdecimal() and text.isascii() and len(text) < 9):
        raise BadInput("Say for how many days, as a whole number, or leave it empty.")
    return int(text) if text else None


def lines(fields: Fields, name: str) -> list[str]:
    """The lines of a field that are not blank."""
    return [line.strip() for line in one(fields, name).splitlines() if line.strip()]
