"""The commands on the database itself."""

from __future__ import annotations

import json
import sys

from thresher.cli.failures import say
from thresher.core.config import Settings
from thresher.persistence.database import create_engine
from thresher.persistence.migrations import check as check_version
from thresher.persistence.migrations import current as current_version
from thresher.persistence.migrations import head as head_version
from thresher.persistence.migrations import upgrade as upgrade_to_head


def upgrade(settings: Settings, *, quiet: bool) -> None:
    """Brings the database to the newest version.

    Raises:
        DatabaseUnusable: it cannot be opened or written, or is of a newer version.
    """
    engine = create_engine(settings.database_url)
    try:
        before = current_version(engine)
        upgrade_to_head(engine)
        after = current_version(engine)
    finally:
        engine.dispose()
    if not quiet:
        say(f"The database is at version {after}" + (" already." if before == after else f" (it was at {before})."))


def current(settings: Settings, *, as_json: bool) -> None:
    """Prints the version of the database, and the newest one."""
    engine = create_engine(settings.database_url)
    try:
        version = current_version(engine)
    finally:
        engine.dispose()
    if as_json:
        sys.stdout.write(json.dumps({"current": version, "head": head_version()}) + "\n")
    else:
        sys.stdout.write(f"{version or 'empty'}\n")


def check(settings: Settings) -> None:
    """Says that the database can be used.

    Raises:
        DatabaseUnusable: it cannot.
    """
    engine = create_engine(settings.database_url)
    try:
        check_version(engine)
    finally:
        engine.dispose()
    say("The database can be used.")
