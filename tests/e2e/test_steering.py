"""A run is steered from a second terminal: real processes, a real model server."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from command import GUARD, Finished, Thresher, end, until_held
from test_discover import PAX, by_model, pax_document

from thresher.testing.model_server import RunningModelServer, running_model_server

WORKERS = 4
LONG = 400  # nodes: 30 s of work, more than any command takes to start on a busy machine


class Steered:
    """A run under way in a process of its own, each node of it taking 0.3 s, or as long as it is held."""

    def __init__(self, thresher: Thresher, folder: Path, server: RunningModelServer, count: int) -> None:
        self.thresher = thresher
        self.server = server
        self.settings = by_model(server) | {"MAX_PARALLEL_NODES": str(WORKERS)}
        self.process = thresher.start("discover", pax_document(folder, count), *PAX, "--json", **self.settings)
        assert self.process.stderr is not None
        self.run_id = self.process.stderr.readline().split()[2]  # Starting run ID on ...
        self.wait_for(WORKERS)

    @property
    def requests(self) -> int:
        asked: int = self.server.stats()["requests"]
        return asked

    def wait_for(self, requests: int) -> None:
        while self.requests < requests:
            assert self.process.poll() is None, self.process.communicate()

    def until_said(self, words: str) -> None:
        """Returns when the run says this on stderr."""
        assert self.process.stderr is not None
        while words not in (line := self.process.stderr.readline()):
            assert line, "it ends without having said that"

    def ended(self, process: subprocess.Popen[str] | None = None) -> Finished:
        process = process or self.process
        out, err = process.communicate(timeout=GUARD)
        return Finished(process.returncode, out, err)


class Steer(Protocol):
    """Begins a run of ``count`` nodes; ``held``: its first answers wait for ``server.release()``."""

    def __call__(self, thresher: Thresher, count: int, *, held: bool = False) -> Steered: ...


@contextmanager
def ending(steered: Steered) -> Iterator[None]:
    yield
    if steered.process.poll() is None:
        end(steered.process)


@pytest.fixture
def steer(tmp_path: Path) -> Iterator[Steer]:
    with ExitStack() as stack:

        def begin(thresher: Thresher, count: int, *, held: bool = False) -> Steered:
            server = stack.enter_context(running_model_server(latency=0.3))
            if held:
                server.hold()
            steered = Steered(thresher, tmp_path, server, count)
            stack.enter_context(ending(steered))
            if held:
                until_held(server, steered.process, WORKERS)
            return steered

        yield begin


def test_paused_from_a_second_process_and_resumed(thresher_on: Thresher, steer: Steer) -> None:
    run = steer(thresher_on, LONG)
    asked = thresher_on("pause", run.run_id, "--no-wait", "--json")
    acknowledged = run.requests
    assert (asked.code, asked.json["requested"]) == (0, "pause"), asked.err
    done = run.ended()
    assert (done.code, done.json["status"]) == (130, "paused"), done.err
    assert f"`thresher resume {run.run_id}` goes on" in done.err
    assert run.requests <= acknowledged + WORKERS
    assert done.json["subtrees_processed"] == run.requests, "what was in hand is finished"
    again = thresher_on("pause", run.run_id)
    assert (again.code, again.err) == (0, ""), "it is paused already"

    with running_model_server() as quick:
        resumed = thresher_on("resume", run.run_id, "--json", **by_model(quick))
        assert (resumed.code, resumed.json["status"]) == (0, "succeeded"), resumed.err
        assert run.requests + quick.stats()["requests"] == LONG


def test_cancelled_from_a_second_process_and_brought_back(thresher: Thresher, steer: Steer) -> None:
    run = steer(thresher, LONG)
    cancelled = thresher("cancel", run.run_id)
    assert cancelled.code == 0, cancelled.err
    assert f"Run {run.run_id} is cancelled" in cancelled.out
    done = run.ended()
    assert (done.code, done.json["status"], done.json["nodes_open"]) == (130, "cancelled", 0), done.err
    assert done.json["subtrees_processed"] == run.requests
    assert done.json["nodes_cancelled"] == done.json["nodes_total"] - run.requests
    for command in ("resume", "retry", "cancel"):
        refused = thresher(command, run.run_id, **run.settings)
        assert (refused.code, "cancelled" in refused.err) == (2, True), refused.err
    with running_model_server() as quick:
        back = thresher("retry", run.run_id, "--cancelled", "--json", **by_model(quick))
        assert (back.code, back.json["subtrees_processed"]) == (0, LONG), back.err
        assert run.requests + quick.stats()["requests"] == LONG


def test_two_processes_on_one_run_both_stop(thresher: Thresher, steer: Steer) -> None:
    run = steer(thresher, LONG)
    second = thresher.start("resume", run.run_id, "--json", **run.settings)
    assert second.stderr is not None
    assert "Resuming" in second.stderr.readline()
    cancelled = thresher("cancel", run.run_id, "--json")
    assert (cancelled.code, cancelled.json["status"]) == (0, "cancelled"), cancelled.err
    assert [run.ended().code, run.ended(second).code] == [130, 130]
    shown = thresher("show", run.run_id, "--json").json
    assert (shown["status"], shown["nodes_open"], shown["subtrees_processed"]) == ("cancelled", 0, run.requests)


def test_a_killed_run_is_cancelled_at_once(thresher_on: Thresher, steer: Steer) -> None:
    run = steer(thresher_on, 40, held=True)
    end(run.process)
    cancelled = thresher_on("cancel", run.run_id, "--json")
    assert (cancelled.code, cancelled.err) == (0, "")
    assert cancelled.json["status"] == "cancelled"
    assert (cancelled.json["nodes_open"], cancelled.json["nodes_in_hand"]) == (0, 0)


def is_frozen(pid: int) -> bool:
    """Whether the system has stopped each of its threads."""
    stats = [stat.read_text("utf-8") for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def freeze(process: subprocess.Popen[str], database: Path) -> None:
    """Stops a process that lives on and does nothing, at a moment when it writes nothing: it keeps no lock."""
    with closing(sqlite3.connect(database, timeout=GUARD, isolation_level=None)) as ours:
        ours.execute("BEGIN IMMEDIATE")
        process.send_signal(signal.SIGSTOP)
        while not is_frozen(process.pid):
            time.sleep(0.01)
        ours.execute("ROLLBACK")


def test_what_has_not_taken_effect_in_time_is_said(thresher: Thresher, steer: Steer, tmp_path: Path) -> None:
    run = steer(thresher, 40, held=True)
    freeze(run.process, tmp_path / "thresher.db")
    late = thresher("pause", run.run_id, "--timeout", "0.5")
    run.process.send_signal(signal.SIGCONT)
    assert (late.code, "not paused yet" in late.out) == (1, True), late.out + late.err
    run.until_said("Asked to pause.")
    run.server.release()
    assert run.ended().json["status"] == "paused", "the request stays"


def test_watched_from_a_second_process_until_it_ends(thresher: Thresher, steer: Steer) -> None:
    run = steer(thresher, 40, held=True)
    watching, seeing = thresher.start("watch", run.run_id), thresher.start("watch", run.run_id, "--json")
    assert watching.stderr is not None
    assert seeing.stdout is not None
    assert watching.stderr.readline().startswith(f"Watching run {run.run_id} on 40.xml: running.")
    lines = [json.loads(seeing.stdout.readline())]
    run.server.release()
    done, seen = run.ended(), run.ended(watching)
    lines += run.ended(seeing).rows
    assert (done.code, seen.code, seeing.returncode) == (0, 0, 0), done.err + seen.err
    assert "40 of 40 processed" in seen.out
    assert [lines[0]["status"], lines[-1]["status"]] == ["running", "succeeded"]
    for line in lines:
        parts = ("subtrees_processed", "nodes_skipped", "nodes_failed", "nodes_cancelled", "nodes_open")
        assert sum(line[part] for part in parts) == line["nodes_total"]
    finished = [line["subtrees_processed"] for line in lines]
    assert finished == sorted(finished)
    assert (finished[-1], lines[-1]["node_facts_extracted"], lines[-1]["requests"]) == (40, 40, 40)


def test_ctrl_c_ends_the_watching_only_and_a_dead_worker_is_noticed(thresher: Thresher, steer: Steer) -> None:
    run = steer(thresher, LONG)
    watching, seeing = thresher.start("watch", run.run_id), thresher.start("watch", run.run_id, "--json")
    assert watching.stderr is not None
    assert "Watching" in watching.stderr.readline()
    _, err = end(watching, signal.SIGINT)
    assert (watching.returncode, "Stopped watching" in err) == (130, True), err
    assert run.process.poll() is None

    assert seeing.stdout is not None
    assert json.loads(seeing.stdout.readline())["status"] == "running"
    end(run.process)
    seen = run.ended(seeing)
    assert (seen.code, f"`thresher resume {run.run_id}` goes on" in seen.err) == (130, True), seen.err


def test_dead_letters_are_listed_and_retried_one_by_one(thresher: Thresher, tmp_path: Path) -> None:
    document = pax_document(tmp_path, 11)
    with running_model_server(fail_matching="<PaxID>P1") as server:
        settings = by_model(server) | {"RETRY_BASE_SECONDS": "0.01", "MAX_RETRIES": "1"}
        run = thresher("discover", document, *PAX, "--json", "--priority", "low", **settings).json
    assert (run["status"], run["nodes_failed"], run["priority"]) == ("partial", 2, "low")
    first, second = thresher("dead", run["run_id"], "--json").json
    assert [letter["path"].rpartition("/")[2] for letter in (first, second)] == ["Pax[2]", "Pax[11]"]
    assert (first["run_id"], first["error_class"]) == (run["run_id"], "TransientLLMError")
    assert [(attempt["number"], attempt["status"]) for attempt in first["attempts"]] == [(1, "failed"), (2, "failed")]

    with running_model_server() as server:
        one = thresher("retry", run["run_id"], "--item", first["path"], "--json", **by_model(server))
        assert (one.code, one.json["nodes_failed"], server.stats()["requests"]) == (3, 1, 1), one.err
        rest = ("--item", str(second["item_id"]), "--error-class", "TransientLLMError")
        assert thresher("retry", run["run_id"], *rest, **by_model(server)).code == 0
    assert thresher("dead", run["run_id"]).out == f"Run {run['run_id']} has no failed nodes.\n"


def test_raw_answers_of_dead_letters_are_shown_on_request(thresher: Thresher, tmp_path: Path) -> None:
    file = tmp_path / "leaf.xml"
    file.write_text("<r><i>one text that cannot be split into smaller ones</i></r>", encoding="utf-8")
    with running_model_server(truncate=1.0) as server:
        settings = by_model(server) | {"MAX_RETRIES": "0"}
        done = thresher("discover", file, "--path", "/r/i", "--json", **settings)
    assert done.code == 1, done.err
    text = thresher("dead", done.json["run_id"]).out
    assert "AnswerTruncated" in text
    assert "try 1:" in text
    assert "--raw prints it" in text
    assert "  | {" in thresher("dead", done.json["run_id"], "--raw").out
