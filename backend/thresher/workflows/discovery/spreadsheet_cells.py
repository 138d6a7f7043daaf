"""Cells of CSV files that people open in spreadsheets: written so that none is taken for a formula, and read back."""

from __future__ import annotations

# What spreadsheets take for the beginning of a formula (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def safe_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: an apostrophe before what looks like one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and _looks_like_formula(value):
        return f"'{value}"
    return value


def plain_cell(cell: str) -> str:
    """The text that ``safe_cell`` wrote (a text that itself begins with an apostrophe and a formula loses that one)."""
    return cell[1:] if cell.startswith("'") and _looks_like_formula(cell[1:]) else cell


def _looks_like_formula(text: str) -> bool:
    return text.lstrip(" ").startswith(_FORMULA_STARTS)
