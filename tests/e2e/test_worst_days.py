"""The worst days: processes that are killed again and again, a server of which nothing can be relied on.

Real processes, real sockets, real databases. ``dying.py`` kills a process at a named point, from outside the product.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from command import GUARD, Thresher, end, until_held
from disks import Room, RoomOfProcess, RoomOnDisk, small_disk
from own_postgres import NoPostgres, OwnPostgres, own_postgres

from thresher.engine.attempt import SUSPECT
from thresher.engine.runner import RunnerOptions
from thresher.persistence.database import create_engine
from thresher.testing.model_server import RunningModelServer, running_model_server

DYING = Path(__file__).with_name("dying.py")
PAX = ("--path", "/PaxList/Pax")
WORKERS = 10
KILLED = -9
PARTIAL = 3
MOST_LOSSES = RunnerOptions().max_losses
# Each point with the number of the call that is the last: so late that the process has done some of its work.
EARLY = {"claim": 3, "request": 15, "finish": 12, "commit": 6}
POINTS = [f"{moment}-{step}" for step in EARLY for moment in ("before", "after")]


def document(folder: Path, count: int, *, times: int = 1) -> Path:
    """``count`` passengers of their own text, all of them ``times`` times."""
    pax = "".join(f"<Pax><Id>P{number}</Id><Note>desk {number * 13}</Note></Pax>" for number in range(count))
    file = folder / f"{count}.xml"
    file.write_text(f"<PaxList>{pax * times}</PaxList>", encoding="utf-8")
    return file


def by_model(server: RunningModelServer, **more: str) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": server.base_url,
        "LLM_MODEL": "test-model",
        "CACHE_ANSWERS": "false",
        "MAX_PARALLEL_NODES": str(WORKERS),
        **more,
    }


@dataclass
class Rows:
    """What a run has left in its database."""

    url: str
    engine: sa.Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = create_engine(self.url)

    def all(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def one(self, query: str) -> Any:
        ((value,),) = self.all(query)
        return value


@pytest.fixture
def sqlite_rows(tmp_path: Path) -> Iterator[Rows]:
    rows = Rows(f"sqlite:///{tmp_path / 'thresher.db'}")
    yield rows
    rows.engine.dispose()


@dataclass
class Victim:
    """One run that is killed and resumed, killed and resumed."""

    thresher: Thresher
    file: Path
    server: RunningModelServer
    settings: dict[str, str]
    mode: Sequence[str] = ()
    run_id: str | None = None
    kills: int = 0

    def dies_of(self, text: str) -> bool:
        """Goes on, with a process that ends when it is about to ask about this text; whether it did."""
        process = self._start(str(DYING), "of", text)
        _, said = process.communicate(timeout=GUARD)
        if process.returncode != KILLED:
            assert process.returncode == PARTIAL, said
            return False
        self._killed()
        return True

    def die_at(self, point: str, nth: int) -> None:
        """Goes on until the process kills itself at this point."""
        process = self._start(str(DYING), point, str(nth))
        _, said = process.communicate(timeout=GUARD)
        assert process.returncode == KILLED, f"{point} was not reached: {said}"
        self._killed()

    def die_after(self, requests: int) -> None:
        """Goes on until the server has seen so many requests more, and holds the last; then kills the process."""
        self.server.hold(after=self.server.stats()["requests"] + requests - 1)
        process = self._start("-m", "thresher")
        until_held(self.server, process)
        end(process)
        assert process.returncode == KILLED, "the run was over before"
        self.server.release()
        self._killed()

    def finish(self) -> dict[str, Any]:
        done = self.thresher("resume", self.run_id or "", "--json", **self.settings)
        assert done.code == 0, done.err
        result: dict[str, Any] = done.json
        return result

    def _start(self, *program: str) -> subprocess.Popen[str]:
        what = ("resume", self.run_id) if self.run_id else ("discover", str(self.file), *PAX, *self.mode)
        return subprocess.Popen(
            [sys.executable, *program, *what, "--quiet"],
            cwd=self.thresher.folder,
            env=self.thresher._environment(self.settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def _killed(self) -> None:
        self.kills += 1
        if self.run_id is None:
            (run,) = self.thresher("runs", "--json", **self.settings).json
            assert run["status"] == "running"
            self.run_id = run["run_id"]


def kill(victim: Victim, points: Sequence[str], dice: random.Random, at_random: Sequence[int]) -> None:
    """Kills at each point, and after as many requests as each of ``at_random`` says, in mixed order.

    Each process does some work: a node that takes ten processes with it is given up, as it should be.
    """
    order = [*points, *([None] * len(at_random))]
    dice.shuffle(order)
    counts = iter(at_random)
    for point in order:
        if point is None:
            victim.die_after(next(counts))
        else:
            victim.die_at(point, EARLY[point.split("-")[1]])


def assert_each_node_has_one_outcome(rows: Rows, nodes: int) -> None:
    assert rows.all("SELECT status, count(*) FROM items GROUP BY status") == [("succeeded", nodes)]
    assert rows.all("SELECT count(*), count(DISTINCT item_id) FROM node_facts") == [(nodes, nodes)]
    assert rows.all("SELECT count(*), count(DISTINCT item_id) FROM attempts WHERE status = 'succeeded'") == [
        (nodes, nodes)
    ]


def assert_attempts_tell_of_every_loss(rows: Rows) -> int:
    """Every try that began is a row with a number of its own, and only the last one succeeded; returns the losses."""
    odd = rows.all(
        "SELECT i.id FROM items i JOIN attempts a ON a.item_id = i.id GROUP BY i.id, i.attempts_started, i.losses "
        "HAVING count(*) <> i.attempts_started OR count(DISTINCT a.number) <> count(*) OR min(a.number) <> 1 "
        "OR max(a.number) <> count(*) OR sum(CASE a.status WHEN 'lost' THEN 1 ELSE 0 END) <> i.losses "
        "OR max(CASE a.status WHEN 'succeeded' THEN a.number END) <> count(*)"
    )
    assert odd == []
    assert rows.all("SELECT DISTINCT error_class FROM attempts WHERE status <> 'succeeded'") == [("WorkerLost",)]
    lost: int = rows.one("SELECT count(*) FROM attempts WHERE status = 'lost'")
    return lost


def assert_only_what_was_in_flight_is_paid_again(victim: Victim, rows: Rows, nodes: int) -> None:
    lost = assert_attempts_tell_of_every_loss(rows)
    requests = victim.server.stats()["requests"]
    assert nodes <= requests <= nodes + victim.kills * WORKERS
    assert requests <= nodes + lost, "a request that no attempt tells of"
    assert rows.one("SELECT sum(requests) FROM attempts WHERE status = 'succeeded'") == nodes


@pytest.mark.timeout(600)  # two dozen processes, on a machine that may be busy
def test_twenty_kills_at_named_points_and_at_random_lose_nothing_and_do_nothing_twice(
    thresher: Thresher, sqlite_rows: Rows, tmp_path: Path
) -> None:
    nodes, dice = 500, random.Random(3)
    with running_model_server(latency=0.02) as server:
        victim = Victim(thresher, document(tmp_path, nodes), server, by_model(server))
        kill(victim, POINTS, dice, [dice.randrange(11, 25) for _ in range(12)])
        result = victim.finish()
        assert (victim.kills, result["status"], result["subtrees_processed"]) == (20, "succeeded", nodes)
        assert_each_node_has_one_outcome(sqlite_rows, nodes)
        assert_only_what_was_in_flight_is_paid_again(victim, sqlite_rows, nodes)


@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_six_kills_on_postgres_lose_nothing_and_do_nothing_twice(tmp_path: Path, postgres_url: str) -> None:
    nodes, dice = 150, random.Random(4)
    points = ["after-claim", "after-request", "before-commit", "after-commit"]
    rows = Rows(postgres_url)
    with running_model_server(latency=0.02) as server:
        thresher = Thresher(tmp_path, {"DATABASE_URL": postgres_url})
        victim = Victim(thresher, document(tmp_path, nodes), server, by_model(server))
        kill(victim, points, dice, [13, 22])
        result = victim.finish()
        assert (victim.kills, result["status"], result["subtrees_processed"]) == (6, "succeeded", nodes)
        assert_each_node_has_one_outcome(rows, nodes)
        assert_only_what_was_in_flight_is_paid_again(victim, rows, nodes)
    rows.engine.dispose()


def test_a_process_that_was_stopped_for_longer_than_its_leases_last_pays_for_nothing_twice(
    thresher: Thresher, sqlite_rows: Rows, tmp_path: Path
) -> None:
    """A laptop that was closed: what the process has in hand is still its own when it wakes."""
    nodes = 30
    with running_model_server() as server:
        server.hold()
        settings = by_model(server, LEASE_SECONDS="3")
        run = thresher.start("discover", document(tmp_path, nodes), *PAX, "--json", **settings)
        until_held(server, run, WORKERS)
        run.send_signal(signal.SIGSTOP)
        time.sleep(4)
        run.send_signal(signal.SIGCONT)
        time.sleep(2)  # it looks for lost nodes more often than that
        server.release()
        out, err = run.communicate(timeout=GUARD)
        requests = server.stats()["requests"]
    assert run.returncode == 0, err
    assert (json.loads(out)["status"], requests) == ("succeeded", nodes)
    assert_each_node_has_one_outcome(sqlite_rows, nodes)
    assert sqlite_rows.all("SELECT status, count(*) FROM attempts GROUP BY status") == [("succeeded", nodes)]


@pytest.fixture(scope="module")
def stoppable() -> Iterator[OwnPostgres]:
    """A PostgreSQL server that this module may stop and start; mandatory where ``CI`` is set."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(own_postgres())
        except NoPostgres as error:
            reason = f"no PostgreSQL of the test's own: {error}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        yield server


@pytest.mark.postgres
def test_a_postgres_that_stops_and_starts_underneath_costs_no_node_and_no_session(
    stoppable: OwnPostgres, tmp_path: Path
) -> None:
    """``immediate`` is a crash of the server, ``fast`` a restart by its administrator."""
    nodes, stops = 300, ("immediate", "fast", "immediate", "fast", "immediate")
    rows = Rows(stoppable.url)
    thresher = Thresher(tmp_path, {"DATABASE_URL": stoppable.url})
    with running_model_server(latency=0.05) as server:
        settings = by_model(server, DATABASE_AUTO_UPGRADE="true")
        at = [number * nodes // (len(stops) + 1) for number in range(1, len(stops) + 1)]
        server.hold(at[0])
        run = thresher.start("discover", document(tmp_path, nodes), *PAX, "--json", **settings)
        for mode, after in zip(stops, [*at[1:], nodes * 2], strict=True):
            until_held(server, run)  # the others are about to be written
            stoppable.stop(mode)
            server.hold(after)
            time.sleep(0.3)  # the run notices
            assert run.poll() is None, "the run was over before"
            stoppable.start()
        out, err = run.communicate(timeout=GUARD)
        requests = server.stats()["requests"]
    assert run.returncode == 0, err
    result = json.loads(out)
    assert (result["status"], result["subtrees_processed"]) == ("succeeded", nodes)
    assert_each_node_has_one_outcome(rows, nodes)
    assert nodes <= requests <= nodes + len(stops) * WORKERS
    assert rows.one("SELECT sum(requests) FROM attempts") == requests, "every request is told of by an attempt"
    rows.engine.dispose()


@pytest.fixture(params=["disk", "limit"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """Room for a database: a small disk, where this user may mount one; and what a process may write."""
    if request.param == "limit":
        yield RoomOfProcess(tmp_path)
        return
    with small_disk(tmp_path / "disk", size="8m") as disk:
        yield RoomOnDisk(disk)


def test_a_disk_that_fills_up_in_the_middle_ends_the_run_and_room_lets_it_go_on(
    thresher: Thresher, tmp_path: Path, room: Room
) -> None:
    nodes, stops = 200, 2
    url = f"sqlite:///{room.folder / 'small.db'}"
    rows = Rows(url)
    with running_model_server(latency=0.05) as server:
        settings = by_model(server, DATABASE_URL=url)
        what: tuple[str | Path, ...] = ("discover", document(tmp_path, nodes), *PAX)
        for number in range(1, stops + 1):
            server.hold(after=number * nodes // (stops + 1))
            run = thresher.start(*what, "--quiet", **settings)
            until_held(server, run)
            room.take(run)
            server.release()
            out, err = run.communicate(timeout=GUARD)
            assert (run.returncode, out) == (1, "")
            assert re.fullmatch(r"Error: The database cannot be written: the disk .*\n", err)
            room.give_back()
            (stopped,) = thresher("runs", "--json", **settings).json
            assert stopped["status"] != "succeeded"
            what = ("resume", stopped["run_id"])
        done = thresher(*what, "--json", **settings)
        assert done.code == 0, done.err
        assert nodes <= server.stats()["requests"] <= nodes + stops * WORKERS
    assert (done.json["status"], done.json["subtrees_processed"]) == ("succeeded", nodes)
    assert_each_node_has_one_outcome(rows, nodes)
    assert_attempts_tell_of_every_loss(rows)
    rows.engine.dispose()


@pytest.mark.timeout(600)  # a dozen processes
def test_nodes_that_only_waited_in_processes_that_were_killed_are_not_given_up(
    thresher: Thresher, sqlite_rows: Rows, tmp_path: Path
) -> None:
    """A dozen processes end right after their first claim: each time with the same nodes, of which none has begun."""
    nodes = 40
    with running_model_server() as server:
        victim = Victim(thresher, document(tmp_path, nodes), server, by_model(server))
        for _ in range(12):
            victim.die_at("after-claim", 1)
        assert server.stats()["requests"] == 0
        result = victim.finish()
        assert (result["status"], result["requests"]) == ("succeeded", nodes)
    assert_each_node_has_one_outcome(sqlite_rows, nodes)
    assert_attempts_tell_of_every_loss(sqlite_rows)
    assert sqlite_rows.one("SELECT max(losses) FROM items") == 1


@pytest.mark.timeout(600)  # a dozen processes
@pytest.mark.parametrize("mode", [("--workers", str(WORKERS)), ("--mode", "batch")])
def test_a_node_that_ends_every_process_is_given_up_and_none_of_its_neighbours(
    thresher: Thresher, sqlite_rows: Rows, tmp_path: Path, mode: tuple[str, str]
) -> None:
    nodes, deadly = 60, "P7"
    with running_model_server(latency=0.02) as server:
        victim = Victim(thresher, document(tmp_path, nodes), server, by_model(server), mode=mode)
        while victim.dies_of(f"<Id>{deadly}</Id>"):
            assert victim.kills <= MOST_LOSSES
        (run,) = thresher("runs", "--json", **victim.settings).json
    assert (victim.kills, run["status"]) == (MOST_LOSSES, "partial")
    dead = "SELECT key, error_class, losses FROM items WHERE status <> 'succeeded'"
    assert sqlite_rows.all(dead) == [("/PaxList/Pax[8]", "WorkerLost", MOST_LOSSES)]
    assert sqlite_rows.one("SELECT max(losses) FROM items WHERE status = 'succeeded'") <= SUSPECT
    assert_attempts_tell_of_every_loss(sqlite_rows)


def test_answers_that_were_stored_before_a_kill_are_not_paid_again_for_equal_nodes(
    thresher: Thresher, sqlite_rows: Rows, tmp_path: Path
) -> None:
    """With the cache on: what was stored before the kills answers equal nodes of the resumed sessions."""
    distinct, times = 60, 2
    with running_model_server(latency=0.02) as server:
        file = document(tmp_path, distinct, times=times)
        victim = Victim(thresher, file, server, by_model(server, CACHE_ANSWERS="true"))
        victim.die_at("after-finish", 20)
        victim.die_at("before-finish", 12)
        result = victim.finish()
        requests = server.stats()["requests"]
    assert (result["status"], result["subtrees_processed"]) == ("succeeded", distinct * times)
    assert distinct <= requests <= distinct + victim.kills * WORKERS
    assert result["requests"] + result["cache_hits"] == distinct * times
    assert_each_node_has_one_outcome(sqlite_rows, distinct * times)
    assert_attempts_tell_of_every_loss(sqlite_rows)


def assert_the_attempts_say_what_the_server_did(rows: Rows, stats: Mapping[str, Any]) -> None:
    """Each fault is one failed try of its class, in its words; fences and prose were mended, and are no failure."""
    failed = "SELECT count(*) FROM attempts WHERE status = 'failed' AND error_class = "
    transient = f"{failed} 'TransientLLMError' AND error_message "
    told = {
        "error_500": rows.one(f"{transient} LIKE '%failed to answer (500)%'"),
        "hang": rows.one(f"{transient} LIKE '%did not answer within 10 s%'"),
        "truncate": rows.one(f"{failed} 'AnswerTruncated' AND raw_answer IS NOT NULL"),
        "drop": rows.one(f"{transient} NOT LIKE '% answer (500)%' AND error_message NOT LIKE '% within 10 s%'"),
    }
    assert told == {name: stats[name] for name in told}
    assert rows.one("SELECT count(*) FROM attempts WHERE status <> 'succeeded'") == sum(told.values())
    assert rows.one("SELECT sum(requests) FROM attempts") == stats["requests"]


def test_a_server_that_does_everything_wrong_costs_tries_and_no_node(
    thresher: Thresher, sqlite_rows: Rows, tmp_path: Path
) -> None:
    nodes = 300
    faults = {"error_500": 0.05, "drop": 0.02, "hang": 0.01, "truncate": 0.03, "prose": 0.02, "fence": 0.02}
    patience = {"REQUEST_TIMEOUT_SECONDS": "10", "RETRY_BASE_SECONDS": "0.05", "MAX_RETRIES": "8"}
    with running_model_server(latency=0.02, seed=5, **faults) as server:
        settings = by_model(server, MAX_PARALLEL_NODES="20", BREAKER_OPEN_SECONDS="0.5", **patience)
        done = thresher("discover", document(tmp_path, nodes), *PAX, "--json", **settings)
        stats = server.stats()
    assert done.code == 0, done.err
    assert all(stats[name] > 0 for name in faults), stats
    assert (done.json["status"], done.json["nodes_failed"]) == ("succeeded", 0)
    assert_each_node_has_one_outcome(sqlite_rows, nodes)
    assert_the_attempts_say_what_the_server_did(sqlite_rows, stats)
