"""Core statements compiled once for a dialect: a quarter of the CPU that SQLAlchemy takes to execute one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

Row = Mapping[str, Any]


class PreparedStatement:
    """An INSERT, UPDATE or DELETE whose parameters all come from its rows; constants are written into the text.

    The types' own processors prepare the values, so that they are stored just as by ``connection.execute``; None is
    NULL. ``columns`` are those of an INSERT. Nothing is returned but the number of rows.
    """

    def __init__(self, statement: sa.ClauseElement, dialect: sa.Dialect, columns: Sequence[str] = ()) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) or None)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._text = str(compiled)
        self._driver: Any = dialect.dbapi
        self._is_positional: bool = compiled.positional
        self._names: Sequence[str] = compiled.positiontup if compiled.positional else tuple(binds)
        self._values_of = itemgetter(*self._names)  # of one name it gives the bare value
        processors = ((place, _processor(binds[name], dialect)) for place, name in enumerate(self._names))
        self._processors = [(place, process) for place, process in processors if process is not None]

    def execute(self, connection: sa.Connection, rows: Sequence[Row]) -> int:
        """Runs it for all rows, in one call of the driver; returns how many rows of the table were written."""
        if not rows:
            return 0
        prepared = [self._prepare(row) for row in rows]
        many = len(prepared) > 1
        parameters = prepared if many else prepared[0]
        cursor = connection.connection.cursor()
        try:
            if many:
                cursor.executemany(self._text, parameters)
            else:
                cursor.execute(self._text, parameters)
            written: int = cursor.rowcount
        except self._driver.Error as error:
            raise _translated(error, connection, self._text, parameters) from error
        finally:
            cursor.close()
        return written

    def _prepare(self, row: Row) -> Any:  # noqa: ANN401 - what the driver takes, a tuple or a mapping
        found = self._values_of(row)
        values = list(found) if len(self._names) > 1 else [found]
        for place, process in self._processors:
            if values[place] is not None:
                values[place] = process(values[place])
        return tuple(values) if self._is_positional else dict(zip(self._names, values, strict=True))


class PreparedLookup:
    """A SELECT of one text by one text, both as they are stored; it begins no transaction of SQLAlchemy's."""

    def __init__(self, statement: sa.Select[str], dialect: sa.Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        (self._name,) = compiled.bind_names.values()
        self._is_positional: bool = compiled.positional
        self._text = str(compiled)
        self._driver: Any = dialect.dbapi

    def execute(self, connection: sa.Connection, text: str) -> str | None:
        """The text of the first row, None where there is no row."""
        parameters: Any = (text,) if self._is_positional else {self._name: text}
        cursor = connection.connection.cursor()
        try:
            cursor.execute(self._text, parameters)
            row = cursor.fetchone()
        except self._driver.Error as error:
            raise _translated(error, connection, self._text, parameters) from error
        finally:
            cursor.close()
        return None if row is None else row[0]


def _translated(error: Any, connection: sa.Connection, text: str, parameters: Any) -> BaseException:  # noqa: ANN401 - the driver's
    """The driver's error as ``connection.execute`` would raise it; a lost connection is marked as such."""
    dialect = connection.dialect
    is_lost = dialect.is_disconnect(error, connection.connection, None)
    if is_lost:
        connection.invalidate(error)
    translated: BaseException = exc.DBAPIError.instance(
        text,
        parameters,
        error,
        dialect.dbapi.Error,  # type: ignore[union-attr]  # a dialect that is connected has its driver
        hide_parameters=connection.engine.hide_parameters,
        connection_invalidated=is_lost,
        dialect=dialect,
    )
    return translated


def _processor(bind: sa.BindParameter[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    if not bind.required:
        raise ValueError(f"{bind.key} is a constant: write it into the statement")
    return bind.type.dialect_impl(dialect).bind_processor(dialect)
