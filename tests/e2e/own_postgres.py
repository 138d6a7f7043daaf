"""A PostgreSQL server of a test's own, which it may stop and start as it likes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OTHERS = ("postgres", "nobody")  # PostgreSQL does not run as root
_OPTIONS = "-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=30"


class NoPostgres(Exception):
    """No server can be started here, and why."""


@dataclass
class OwnPostgres:
    """A cluster in ``folder``, by the programs in ``programs``. ``user`` runs it; None: who runs the tests."""

    folder: Path
    programs: Path
    user: str | None
    port: int = 0

    @property
    def url(self) -> str:
        """The address of its maintenance database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Makes the cluster and starts it.

        Raises:
            NoPostgres: it does not start.
        """
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.port = _free_port()
        self.start()

    def start(self) -> None:
        """Returns when it takes connections; after ``stop("immediate")`` it has recovered then."""
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", log, "-o", f"-p {self.port} {_OPTIONS}", "start")

    def stop(self, mode: str) -> None:
        """``fast``: sessions are ended and their transactions rolled back; ``immediate``: as if it had crashed."""
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-m", mode, "stop")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        as_user: dict[str, Any] = {}
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        said = self.folder / f"{program}.out"  # not a pipe: the server would inherit it, and it would stay open
        try:
            with said.open("w") as out:
                done = subprocess.run(
                    [str(self.programs / program), *arguments],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    timeout=120,
                    check=False,
                    **as_user,
                )
        except OSError as error:
            raise NoPostgres(f"{program}: {error}") from error
        if done.returncode:
            raise NoPostgres(f"{program}: {said.read_text(errors='replace').strip()[-500:]}")


@contextlib.contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """A server while inside.

    Raises:
        NoPostgres: neither the system's programs nor those of the development dependencies start one.
    """
    folder = Path(tempfile.mkdtemp(prefix="thresher-own-postgres-"))  # not pytest's: others may not look into that
    server = None
    try:
        server = _first_that_starts(folder)
        yield server
    finally:
        if server is not None:
            with contextlib.suppress(NoPostgres):  # it is stopped already
                server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _first_that_starts(folder: Path) -> OwnPostgres:
    reasons = []
    for number, (name, programs) in enumerate(_candidates(folder)):
        place = folder / str(number)
        place.mkdir()
        user = _unprivileged(folder, place)
        server = OwnPostgres(place, programs, user)
        try:
            server.create()
        except NoPostgres as error:
            reasons.append(f"{name}: {error}")
        else:
            return server
    raise NoPostgres("; ".join(reasons) or "no programs of PostgreSQL are found")


def _unprivileged(*folders: Path) -> str | None:
    """Who runs the server, with the right to write into its folders."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = next((name for name in _OTHERS if name in names), None)
    if user is None:
        raise NoPostgres(f"PostgreSQL does not run as root, and there is none of the users {', '.join(_OTHERS)}")
    for folder in folders:
        shutil.chown(folder, user)
    return user


def _candidates(folder: Path) -> Iterator[tuple[str, Path]]:
    """Folders with the programs of a server: the system's, then the one of the development dependencies."""
    on_path = shutil.which("pg_config")
    if on_path:
        told = subprocess.run([on_path, "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
        if (Path(told) / "initdb").exists():
            yield "the system's", Path(told)
    for programs in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (programs / "initdb").exists():
            yield str(programs), programs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = importlib.util.find_spec("pgserver")
    if found is not None and found.origin is not None:
        package = Path(found.origin).parent
        copied = folder / package.name  # where every user may read it, whatever the rights of the environment
        shutil.copytree(package, copied, symlinks=True)
        libraries = package.with_name("pgserver.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        yield "pgserver", copied / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
