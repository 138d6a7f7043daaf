"""The version of a database: what it is, whether this Thresher can use it, and how it gets there.

Alembic is imported only where a migration runs: looking at the version costs one small query.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc

from thresher.core.errors import DatabaseUnusable
from thresher.persistence.database import WRITE_ACCESS
from thresher.persistence.failures import storage_failure
from thresher.persistence.tables import Base

if TYPE_CHECKING:
    from alembic.config import Config

# In the order they follow each other; a test compares them with alembic/versions.
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")
HEAD = REVISIONS[-1]

_ADVISORY_LOCK = 0x7468726573686572  # "thresher" in ASCII: PostgreSQL's lock is one number for the whole database
_version_table = sa.table("alembic_version", sa.column("version_num", sa.Text))


def current(engine: sa.Engine) -> str | None:
    """The database's revision; None where no migration was ever run.

    Raises:
        DatabaseUnusable: the database cannot be read.
    """
    try:
        with engine.connect() as connection:
            return _current(connection)
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise DatabaseUnusable(f"The version of the database cannot be read: {_reason(error)}") from error


def check(engine: sa.Engine) -> None:
    """Makes sure that this Thresher can use the database as it is.

    Raises:
        DatabaseUnusable: it is empty, older, or newer; the message says what to do.
    """
    revision = current(engine)
    if revision == HEAD:
        return
    if revision is None:
        raise DatabaseUnusable("The database has no tables yet: run `thresher db upgrade`.")
    _refuse_newer(revision)
    raise DatabaseUnusable(
        f"The database is of an older version ({revision}, this Thresher needs {HEAD}): run `thresher db upgrade`."
    )


def upgrade(engine: sa.Engine) -> bool:
    """Brings the database to this Thresher's version; says whether there was anything to do.

    Either all of it happens or nothing. Of several processes one does it and the others wait for it.

    Raises:
        DatabaseUnusable: the database is of a newer version, or cannot be written.
    """
    if current(engine) == HEAD:
        return False
    return _migrate(engine, _upgrade_once)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Takes the database back to an older revision (``base``: to no tables); data that it cannot hold is lost.

    Raises:
        DatabaseUnusable: the revision is unknown, the database is of a newer version, or it cannot be written.
    """
    if revision not in {*REVISIONS, "base"}:
        raise DatabaseUnusable(f"There is no revision {revision!r}: there are {', '.join(REVISIONS)} and base.")

    def take_back(connection: sa.Connection) -> bool:
        from alembic import command  # noqa: PLC0415 - costs 0.1 s that only migrations need

        _refuse_newer(_current(connection))
        command.downgrade(_config(connection), revision)
        return True

    _migrate(engine, take_back)


def scripts() -> Path:
    """The folder with ``env.py`` and ``versions/``: beside this file in a wheel, at the top in a checkout."""
    bundled = Path(__file__).with_name("migrations_data")
    return bundled if bundled.is_dir() else Path(__file__).parents[3] / "alembic"


@contextlib.contextmanager
def exclusive(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection in a transaction that no other migration can run beside, committed at the end.

    SQLite alters a table by copying and dropping it; its foreign keys rest meanwhile, or their cascades would
    delete what refers to the table.
    """
    with engine.execution_options(**WRITE_ACCESS).connect() as connection:
        driver: Any = connection.connection.driver_connection
        is_sqlite = isinstance(driver, sqlite3.Connection)
        if is_sqlite:
            driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                if not is_sqlite:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                yield connection
        finally:
            if is_sqlite:
                driver.execute("PRAGMA foreign_keys=ON")


def _upgrade_once(connection: sa.Connection) -> bool:
    revision = _current(connection)
    if revision == HEAD:
        return False  # another process was quicker
    _refuse_newer(revision)
    if revision is None and not sa.inspect(connection).get_table_names():
        _create(connection)
        return True
    from alembic import command  # noqa: PLC0415 - costs 0.1 s that only migrations need

    command.upgrade(_config(connection), "head")
    return True


def _create(connection: sa.Connection) -> None:
    """All tables at once, in a database that has none: a test says that this is what the migrations come to.

    https://alembic.sqlalchemy.org/en/latest/cookbook.html#building-an-up-to-date-database-from-scratch
    """
    Base.metadata.create_all(connection)
    connection.execute(sa.text(f"CREATE TABLE {_version_table.name} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(sa.insert(_version_table).values(version_num=HEAD))


def _migrate(engine: sa.Engine, step: Callable[[sa.Connection], bool]) -> bool:
    try:
        with exclusive(engine) as connection:
            return step(connection)
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise DatabaseUnusable(f"The database cannot be migrated: {_reason(error)}") from error


def _config(connection: sa.Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - costs 0.1 s that only migrations need

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_version_table.name):
        return None
    return connection.scalar(sa.select(_version_table.c.version_num))


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision not in REVISIONS:
        raise DatabaseUnusable(
            f"The database is of a newer version ({revision}) than this Thresher knows ({HEAD}): "
            "upgrade Thresher, or name another database in DATABASE_URL."
        )


def _reason(error: exc.SQLAlchemyError | sqlite3.Error) -> str:
    failure = storage_failure(error)
    return str(failure or (error.orig if isinstance(error, exc.DBAPIError) else error))
