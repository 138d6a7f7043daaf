"""Core statements compiled once for a dialect: a third of the CPU that SQLAlchemy takes to execute one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

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
        self._is_positional: bool = compiled.positional
        self._names: Sequence[str] = compiled.positiontup if compiled.positional else tuple(binds)
        self._values_of = itemgetter(*self._names)
        processors = ((place, _processor(binds[name], dialect)) for place, name in enumerate(self._names))
        self._processors = [(place, process) for place, process in processors if process is not None]

    def execute(self, connection: sa.Connection, rows: Sequence[Row]) -> int:
        """Runs it for all rows, in one call of the driver; returns how many rows of the table were written."""
        if not rows:
            return 0
        parameters = [self._prepare(row) for row in rows]
        return connection.exec_driver_sql(self._text, parameters if len(rows) > 1 else parameters[0]).rowcount

    def _prepare(self, row: Row) -> Any:  # noqa: ANN401 - what the driver takes, a tuple or a mapping
        values = list(self._values_of(row))
        for place, process in self._processors:
            if values[place] is not None:
                values[place] = process(values[place])
        return tuple(values) if self._is_positional else dict(zip(self._names, values, strict=True))


def _processor(bind: sa.BindParameter[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    if not bind.required:
        raise ValueError(f"{bind.key} is a constant: write it into the statement")
    return bind.type.dialect_impl(dialect).bind_processor(dialect)
