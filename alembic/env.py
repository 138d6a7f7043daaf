"""How Alembic meets the database: over a connection that was passed, else over the one that DATABASE_URL names."""

from __future__ import annotations

import os

import sqlalchemy as sa
from alembic import context

from thresher.persistence.database import create_engine
from thresher.persistence.migrations import exclusive
from thresher.persistence.tables import Base


def plain_type(kind: str, column_type: object, _context: object) -> str | bool:
    """Migrations name SQLAlchemy's own types: they must not change when the models' types do."""
    if kind == "type" and isinstance(column_type, sa.TypeDecorator):
        return f"sa.{column_type.impl!r}"
    return False


def migrate(connection: sa.Connection) -> None:
    """Runs the migrations in the transaction that the connection is in; SQLite can undo tables too."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transactional_ddl=True,
        render_as_batch=True,
        render_item=plain_type,
    )
    with context.begin_transaction():
        context.run_migrations()


passed: sa.Connection | None = context.config.attributes.get("connection")
if passed is not None:
    migrate(passed)
else:
    with exclusive(create_engine(os.environ.get("DATABASE_URL", "sqlite:///thresher.db"))) as own:
        migrate(own)
