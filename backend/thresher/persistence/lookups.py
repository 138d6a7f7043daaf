"""Single look-ups, many times a second, from any thread: each is one statement outside of transactions."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc

from thresher.persistence.failures import storage_failure

_KEPT_CONNECTIONS = 4

LookUp: TypeAlias = Callable[[sa.Connection, str], str | None]


class Lookups:
    """Connections that only look up, a few of which are kept."""

    def __init__(self, engine: sa.Engine) -> None:
        """``engine`` begins transactions for reading."""
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(isolation_level="AUTOCOMMIT")  # as SQLite is without a BEGIN
        self._engine = engine
        self._idle: deque[sa.Connection] = deque()

    def use(self, look_up: LookUp, key: str) -> str | None:
        """One look-up; that a kept connection was lost meanwhile is no failure yet.

        Raises:
            DatabaseUnavailable, StorageFailed: the database cannot be read.
        """
        try:
            connection = self._take()
            if connection is not None:
                with contextlib.suppress(exc.DBAPIError):
                    return self._look_up(connection, look_up, key)
            return self._look_up(self._engine.connect(), look_up, key)
        except exc.SQLAlchemyError as error:
            raise storage_failure(error) or error from error

    def _take(self) -> sa.Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _look_up(self, connection: sa.Connection, look_up: LookUp, key: str) -> str | None:
        """Gives the connection back where all was well; else nothing is certain of it any more."""
        try:
            found = look_up(connection, key)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        if len(self._idle) < _KEPT_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()
        return found

    def close(self) -> None:
        """Gives the connections back that are kept."""
        while (connection := self._take()) is not None:
            connection.close()
