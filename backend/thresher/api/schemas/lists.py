"""Lists that are read page by page."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")


class PageOf(BaseModel, Generic[T]):
    """A page of a list."""

    data: list[T]
    next: str | None = Field(default=None, description="The `cursor` of the page that follows; null: there is none.")
