"""Errors of the databases mapped to those of the engine, by the drivers' own codes and never by their text."""

from __future__ import annotations

import sqlite3

from sqlalchemy import exc

from thresher.core.errors import BadInput, DatabaseUnavailable, StorageFailed

_FULL = "the disk is full; make room and try again"
_SQLITE_BROKEN = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_PERM: "access to the database file is denied",
    sqlite3.SQLITE_AUTH: "access to the database file is denied",
}
_SQLITE_PASSING = {
    sqlite3.SQLITE_BUSY: "another process kept it locked for too long",
    sqlite3.SQLITE_LOCKED: "another connection kept it locked for too long",
    sqlite3.SQLITE_PROTOCOL: "another process kept it locked for too long",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
}

# SQLSTATE codes, longest prefix first: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES_BROKEN = {
    "53100": _FULL,
    "25006": "the database is read-only",
    "58": "the disk reports an error",
    "XX": "the database is damaged",
}
_POSTGRES_PASSING = {
    "08": "the connection was lost",
    "57P": "the server is stopping or starting",
    "53": "the server is out of resources",
    "40": "it collided with another transaction",
    "55P03": "another transaction kept a row locked for too long",
}


def storage_failure(error: BaseException) -> DatabaseUnavailable | StorageFailed | None:
    """What an error says of the database as a whole; None where it is about the statement alone.

    ``DatabaseUnavailable`` may pass, ``StorageFailed`` does not. The message names no address and no password.
    """
    if isinstance(error, DatabaseUnavailable | StorageFailed):
        return error
    if isinstance(error, exc.TimeoutError):
        return DatabaseUnavailable("The database is not available: no free connection within the time limit.")
    driver_error = error.orig if isinstance(error, exc.DBAPIError) else error
    failure = None
    if isinstance(driver_error, sqlite3.Error):
        failure = _of_sqlite(driver_error)
    elif isinstance(error, exc.DBAPIError):
        failure = _of_postgres(error)
    if failure is None and isinstance(driver_error, sqlite3.Error) and error.__context__ is not None:
        # SQLite ends the transaction when its disk is full; then there is no savepoint left to go back to.
        return storage_failure(error.__context__)
    return failure


def unusable_value(error: BaseException) -> BadInput | None:
    """What an error says of a value that was looked for, or written; None where it is about something else.

    No database holds text with NUL (PostgreSQL) or half of a surrogate pair, numbers of more than 64 bits, or times
    that are before the year 1 in UTC.
    """
    cause = error.orig if isinstance(error, exc.StatementError) else error
    if isinstance(error, exc.DataError) or isinstance(cause, OverflowError | UnicodeEncodeError):
        return BadInput("A value cannot be used: its text has characters, or its size, that no database holds.")
    return None


def _of_sqlite(error: sqlite3.Error) -> DatabaseUnavailable | StorageFailed | None:
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if primary in _SQLITE_BROKEN:
        return StorageFailed(f"The database cannot be written: {_SQLITE_BROKEN[primary]}.")
    if primary in _SQLITE_PASSING:
        return DatabaseUnavailable(f"The database is not available: {_SQLITE_PASSING[primary]}.")
    return None


def _of_postgres(error: exc.DBAPIError) -> DatabaseUnavailable | StorageFailed | None:
    sqlstate: str = getattr(error.orig, "sqlstate", None) or ""
    for prefix, reason in _POSTGRES_BROKEN.items():
        if sqlstate.startswith(prefix):
            return StorageFailed(f"The database cannot be written: {reason}.")
    for prefix, reason in _POSTGRES_PASSING.items():
        if sqlstate.startswith(prefix):
            return DatabaseUnavailable(f"The database is not available: {reason}.")
    if error.connection_invalidated or (isinstance(error, exc.OperationalError) and not sqlstate):
        return DatabaseUnavailable("The database is not available: the connection was lost.")
    return None
