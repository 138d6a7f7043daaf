"""Core statements compiled once for a dialect: a third of the CPU that SQLAlchemy takes to execute one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

Row = Mapping[str, Any]


class PreparedStatement:
    """An INSERT, UPDATE or DELETE of which only the values change.

    Every row names all parameters; ``columns`` are those of an INSERT. The types' own processors prepare the values,
    so that they are stored just as by ``connection.execute``. Nothing is returned but the number of rows.
    """

    def __init__(self, statement: sa.ClauseElement, dialect: sa.Dialect, columns: Sequence[str] = ()) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) or None)
        self._text = str(compiled)
        self._is_positional: bool = compiled.positional
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        names: Sequence[str] = compiled.positiontup if compiled.positional else tuple(binds)
        self._parameters = tuple(_Parameter(name, binds[name], dialect) for name in names)

    def execute(self, connection: sa.Connection, rows: Sequence[Row]) -> int:
        """Runs it for all rows, in one call of the driver; returns how many rows of the table were written."""
        if not rows:
            return 0
        values: list[Any] = [[parameter.of(row) for parameter in self._parameters] for row in rows]
        if self._is_positional:
            values = [tuple(row) for row in values]
        else:
            values = [dict(zip((p.name for p in self._parameters), row, strict=True)) for row in values]
        return connection.exec_driver_sql(self._text, values if len(values) > 1 else values[0]).rowcount


class _Parameter:
    """Where one value comes from, the row or the statement itself, and how it is prepared for the driver."""

    __slots__ = ("_constant", "_is_constant", "_process", "name")

    def __init__(self, name: str, bind: sa.BindParameter[Any], dialect: sa.Dialect) -> None:
        self.name = name
        self._process: Callable[[Any], Any] | None = bind.type.dialect_impl(dialect).bind_processor(dialect)
        self._is_constant = not bind.required
        self._constant = self._processed(bind.effective_value) if self._is_constant else None

    def of(self, row: Row) -> Any:  # noqa: ANN401 - what the driver takes
        return self._constant if self._is_constant else self._processed(row[self.name])

    def _processed(self, value: object) -> object:
        return value if self._process is None else self._process(value)
