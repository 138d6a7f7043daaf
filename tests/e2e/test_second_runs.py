"""What a person sees of answers that are kept: by the real command, in processes of its own."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from command import GUARD, Thresher, end, interrupt, until_held

from thresher.testing.model_server import RunningModelServer, running_model_server

PATH = ("--path", "/List/*")


def by_model(server: RunningModelServer) -> dict[str, str]:
    return {"OPENAI_BASE_URL": server.base_url, "LLM_MODEL": "gpt-4o-mini"}


def document(folder: Path, count: int, *, equal: bool = False) -> Path:
    file = folder / "legs.xml"
    numbers = [7] * count if equal else range(count)
    legs = "".join(f"<Leg><Code>AMS</Code><Miles>{number}</Miles></Leg>" for number in numbers)
    file.write_text(f"<List>{legs}</List>", encoding="utf-8")
    return file


def test_a_second_run_tells_what_it_did_not_pay_and_the_cache_what_it_saved(thresher: Thresher, tmp_path: Path) -> None:
    file = document(tmp_path, 10)
    with running_model_server() as server:
        first = thresher("discover", file, *PATH, "--json", **by_model(server)).json
        again = thresher("discover", file, *PATH, **by_model(server))
        assert server.stats()["requests"] == 10
        anew = thresher("discover", file, *PATH, "--no-cache", "--json", **by_model(server)).json
        assert server.stats()["requests"] == 20
    assert (first["requests"], first["cache_hits"], anew["requests"], anew["cache_hits"]) == (10, 0, 10, 0)
    assert "0 requests, 0 tokens, 10 answers from the cache, 0.0000 USD" in again.out

    stats = thresher("cache", "stats", "--json").json
    assert (stats["answers"], stats["hits"], stats["tokens_saved"]) == (10, 10, first["tokens"])
    assert "10 answers deleted" in thresher("cache", "clear", "--older-than", "0").err


def test_after_kill_9_a_new_run_does_not_pay_for_what_was_stored(thresher: Thresher, tmp_path: Path) -> None:
    """Even where nobody resumes: every answer was kept in the transaction that finished its node."""
    file, workers = document(tmp_path, 120), 10
    with running_model_server(latency=0.05) as server:
        server.hold(after=59)
        process = thresher.start("discover", file, *PATH, "--quiet", **by_model(server))
        until_held(server, process)
        end(process)
        server.release()
        done = thresher("discover", file, *PATH, "--json", **by_model(server))
        requests = server.stats()["requests"]
    assert done.code == 0, done.err
    assert done.json["cache_hits"] + done.json["requests"] == 120
    assert done.json["cache_hits"] >= 60 - workers
    assert 120 <= requests <= 120 + workers


def nodes_in_hand(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "thresher.db")) as database:
        ((count,),) = database.execute("SELECT count(*) FROM items WHERE status = 'running'")
    return int(count)


def test_ctrl_c_ends_the_wait_for_an_answer_of_another_node(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server() as server:
        server.hold()
        process = thresher.start("discover", document(tmp_path, 10, equal=True), *PATH, "--json", **by_model(server))
        until_held(server, process)
        interrupt(process)
        while nodes_in_hand(tmp_path) > 1:  # those that wait give up, before there is an answer
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        server.release()
        out, err = process.communicate(timeout=GUARD)
        result = json.loads(out)
        assert (process.returncode, result["status"], result["subtrees_processed"]) == (130, "paused", 1), err
        done = thresher("resume", result["run_id"], "--json", **by_model(server)).json
        assert (done["status"], done["requests"], done["cache_hits"]) == ("succeeded", 1, 9)
        assert server.stats()["requests"] == 1
