"""A database that is away for a while is waited for: a run of hours does not fail for a restart of seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any, cast

from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential_jitter,
)

from thresher.core.errors import DatabaseUnavailable
from thresher.engine.ports import Store

STORE_PATIENCE = 60.0  # seconds that a store which is away is waited for
_AT_ONCE = frozenset(
    {"amend", "asked", "claim", "draw_share", "finish", "finish_all", "renew"}
)  # called by those who know better what to do then


def patiently(stopping: Event | None = None) -> Retrying:
    """Repeats a call while the store is away, for ``STORE_PATIENCE`` at most, or until ``stopping`` is set."""
    how: dict[str, Any] = {"stop": stop_after_delay(STORE_PATIENCE)}
    if stopping is not None:
        how = {"stop": how["stop"] | stop_when_event_set(stopping), "sleep": sleep_using_event(stopping)}
    return Retrying(
        retry=retry_if_exception_type(DatabaseUnavailable),
        wait=wait_exponential_jitter(multiplier=0.1, max=5.0),
        reraise=True,
        **how,
    )


def patient(store: Store, stopping: Event) -> Store:
    """The same store, whose calls are repeated while it is away, as long as the run is not being stopped.

    Only for calls that mean the same when they are made twice: all but those of ``_AT_ONCE``.
    """
    return cast("Store", _Patient(store, stopping))


class _Patient:
    """Every method of a store, with patience."""

    def __init__(self, store: Store, stopping: Event) -> None:
        self._store = store
        self._stopping = stopping

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._store, name)
        return method if name in _AT_ONCE else partial(patiently(self._stopping), method)
