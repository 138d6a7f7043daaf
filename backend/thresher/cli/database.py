"""The commands on the database itself."""

from __future__ import annotations

import json
import sys

from thresher.cli.failures import say
from thresher.core.config import Settings
from thresher.persistence import migrations
from thresher.persistence.database import create_engine


def upgrade(settings: Settings, *, quiet: bool) -> None:
    """Brings the database to the newest version.

    Raises:
        DatabaseUnusable: it cannot be opened or written, or is of a newer version.
    """
    engine = create_engine(settings.database_url)
    try:
        before = migrations.current(engine)
        migrations.upgrade(engine)
        after = migrations.current(engine)
    finally:
        engine.dispose()
    if not quiet:
        say(f"The database is at version {after}" + (" already." if before == after else f" (it was at {before})."))


def current(settings: Settings, *, as_json: bool) -> None:
    """Prints the version of the database, and the newest one."""
    engine = create_engine(settings.database_url)
    try:
        version = migrations.current(engine)
    finally:
        engine.dispose()
    if as_json:
        sys.stdout.write(json.dumps({"current": version, "head": migrations.HEAD}) + "\n")
    else:
        sys.stdout.write(f"{version or 'empty'}\n")


def check(settings: Settings) -> None:
    """Says that the database can be used.

    Raises:
        DatabaseUnusable: it cannot.
    """
    engine = create_engine(settings.database_url)
    try:
        migrations.check(engine)
    finally:
        engine.dispose()
    say("The database can be used.")
