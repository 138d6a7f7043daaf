"""Onlookers of runs: many, slow, late, coming again; of runs of this server, of a killed one, of other processes."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import pytest
from command import GUARD, Thresher
from onlookers import (
    State,
    address_of,
    assert_law_one,
    looking_on,
    one_that_never_reads,
    seen_by_one,
    server_sent,
    until_closed,
    until_stopping,
)
from server import running_server
from test_service_access import key, problem
from test_service_runs import PATH, by_model, message
from websockets.exceptions import InvalidStatus

from thresher.testing.model_server import running_model_server

SMALL = message(3)
ONLOOKERS = 50


def test_fifty_onlookers_see_the_same_end_and_one_that_never_reads_slows_nobody(thresher: Thresher) -> None:
    count = 120
    with running_model_server(latency=0.1) as model, running_server(thresher, **by_model(model)) as server:
        model.hold(after=count // 4)
        run_id = server.upload(message(count), paths=PATH).json()["run_id"]
        address = address_of(server, run_id)

        arrived = Semaphore(0)

        async def everyone() -> list[tuple[list[State], int | None]]:
            return await asyncio.gather(*(seen_by_one(address, arrived.release) for _ in range(ONLOOKERS)))

        # In a thread of its own: tests in a browser leave a loop running in this one.
        with one_that_never_reads(address), ThreadPoolExecutor(1) as apart:
            looking = apart.submit(lambda: asyncio.run(everyone()))
            assert all(arrived.acquire(timeout=GUARD) for _ in range(ONLOOKERS))
            model.release()
            seen = looking.result()
        assert {code for _, code in seen} == {1000}
        for states, _ in seen:
            assert_law_one(states)
        (end,) = {json.dumps(states[-1]) for states, _ in seen}
        last = json.loads(end)
        assert (last["status"], last["nodes"]["succeeded"], last["facts"], last["share"]) == ("succeeded", 120, 120, 1)
        assert last["requests"] == count
        assert last["latency"]["tries"] == count
        live = [state for states, _ in seen for state in states if state["source"] == "live"]
        assert max(state["in_hand"] for state in live) == 4
        assert any(state["resource"]["requests_per_second"] > 0 for state in live)
        assert any(state["eta_seconds"] for state in live)


def test_who_comes_late_or_again_or_after_the_end_gets_the_state_first(thresher: Thresher) -> None:
    with running_model_server(latency=0.1) as model, running_server(thresher, **by_model(model)) as server:
        model.hold(after=10)
        run_id = server.upload(message(60), paths=PATH).json()["run_id"]
        server.until(run_id, lambda run: run["nodes"]["succeeded"] >= 10)
        with looking_on(server, run_id) as first:
            early = json.loads(first.recv(timeout=GUARD))
            assert early["nodes"]["succeeded"] >= 10
        model.hold(after=20)
        server.until(run_id, lambda run: run["nodes"]["succeeded"] >= 20)
        with looking_on(server, run_id) as again:
            model.release()
            states, code = until_closed(again)
        assert states[0]["number"] > early["number"]
        assert states[0]["nodes"]["succeeded"] >= early["nodes"]["succeeded"]
        assert_law_one(states)
        with looking_on(server, run_id) as after:
            ended, code = until_closed(after)
        assert (code, [state["event"] for state in ended]) == (1000, ["finished"])
        assert (ended[0]["status"], ended[0]["nodes"]["succeeded"]) == ("succeeded", 60)


def test_states_are_at_most_about_twenty_a_second_however_fast_nodes_end(thresher: Thresher) -> None:
    with running_server(thresher, PROCESSING_MODE="parallel") as server:
        began = time.monotonic()
        run_id = server.upload(message(3_000), paths=PATH).json()["run_id"]
        with looking_on(server, run_id) as connection:
            states, code = until_closed(connection)
        assert code == 1000
        assert_law_one(states)
        assert 3 < len(states) <= 20 * (time.monotonic() - began) + 2


def test_onlookers_of_a_killed_server_come_again_and_the_run_goes_on(thresher: Thresher) -> None:
    with running_model_server(latency=0.1) as model:
        settings = by_model(model)
        model.hold(after=10)
        with running_server(thresher, **settings) as first:
            run_id = first.upload(message(60), paths=PATH).json()["run_id"]
            with looking_on(first, run_id) as connection:
                while (state := json.loads(connection.recv(timeout=GUARD)))["nodes"]["succeeded"] < 10:
                    pass
                first.kill()
                _, code = until_closed(connection)
                assert code is None
        model.release()
        with running_server(thresher, **settings) as second, looking_on(second, run_id) as connection:
            states, code = until_closed(connection)
        assert code == 1000
        assert_law_one(states)
        assert states[0]["number"] > state["number"]
        assert states[0]["nodes"]["succeeded"] >= state["nodes"]["succeeded"]
        last = states[-1]
        assert (last["status"], last["nodes"]["succeeded"], last["facts"]) == ("succeeded", 60, 60)
        live = [state for state in states if state["source"] == "live"]
        assert live[-1]["requests"] <= last["requests"]
        assert live[-1]["errors"].get("WorkerLost", 0) == last["errors"].get("WorkerLost", 0)


def test_a_run_of_another_process_is_followed(thresher: Thresher) -> None:
    with running_model_server(latency=0.1) as model, running_server(thresher, **by_model(model)) as server:
        (thresher.folder / "pax.xml").write_bytes(message(80))
        model.hold(after=20)
        process = thresher.start("discover", "pax.xml", "--path", PATH, "--json", **by_model(model))
        while not (runs := server.client.get("/api/v1/runs/").json()["data"]):
            time.sleep(0.05)
        with looking_on(server, runs[0]["run_id"]) as connection:
            states = [json.loads(connection.recv(timeout=GUARD))]
            for read in (20, 40):
                model.hold(after=read)
                while states[-1]["nodes"]["succeeded"] < read:
                    states.append(json.loads(connection.recv(timeout=GUARD)))
            model.release()
            more, code = until_closed(connection)
        process.communicate(timeout=GUARD)
        states += more
        assert code == 1000
        assert_law_one(states)
        assert {state["source"] for state in states} == {"rows"}
        assert any(0 < state["nodes"]["succeeded"] < 80 and state["in_hand"] for state in states)
        assert any(state["nodes_per_second"] > 0 for state in states)
        assert states[-1]["facts"] == 80


def test_a_paused_run_keeps_its_onlookers_until_it_has_ended(thresher: Thresher) -> None:
    with running_model_server(latency=0.1) as model, running_server(thresher, **by_model(model)) as server:
        model.hold(after=4)
        run_id = server.upload(message(60), paths=PATH).json()["run_id"]
        with looking_on(server, run_id) as connection:
            seen = [json.loads(connection.recv(timeout=GUARD))]

            def until(is_so: Callable[[State], bool]) -> None:
                while not is_so(seen[-1]):
                    seen.append(json.loads(connection.recv(timeout=GUARD)))

            def steer(action: str) -> None:
                model.until_held()  # a node is in hand: the run cannot stop without a word
                server.client.post(f"/api/v1/runs/{run_id}/{action}")
                until(lambda state: state["stopping"] is not None)
                model.release()

            steer("pause")
            until(lambda state: state["status"] == "paused")
            assert seen[-1]["nodes"]["running"] == 0
            model.hold(after=model.stats()["requests"] + 4)
            server.client.post(f"/api/v1/runs/{run_id}/resume")
            steer("cancel")
            states, code = until_closed(connection)
        assert (code, states[-1]["status"]) == (1000, "cancelled")
        assert_law_one([*seen, *states])


def test_a_server_that_stops_sends_its_onlookers_home(thresher: Thresher) -> None:
    with running_model_server(latency=0.1) as model, running_server(thresher, **by_model(model)) as server:
        model.hold(after=4)
        run_id = server.upload(message(60), paths=PATH).json()["run_id"]
        with looking_on(server, run_id) as connection:
            connection.recv(timeout=GUARD)
            server.process.send_signal(signal.SIGTERM)
            states, code = until_closed(connection)
        model.release()
        assert server.ended()[0] == 0
        assert code == 1012
        assert "finished" not in [state["event"] for state in states]


def test_errors_budget_and_slowest_nodes_are_told(thresher: Thresher) -> None:
    settings = {"MAX_RETRIES": "0", "BREAKER_FAILURES": "100"}  # no waiting for a server that is away
    with (
        running_model_server(latency=0.02, error_500=1.0) as model,
        running_server(thresher, **by_model(model, **settings)) as server,
    ):
        run_id = server.upload(message(8), paths=PATH, budget="100ktokens").json()["run_id"]
        with looking_on(server, run_id) as connection:
            states, _ = until_closed(connection)
        last = states[-1]
        assert (last["status"], last["nodes"]["dead"]) == ("failed", 8)
        assert sum(last["errors"].values()) == 8
        assert len(last["last_errors"]) == len(last["slowest"]) == 5
        assert {failure["error_class"] for failure in last["last_errors"]} == set(last["errors"])
        assert last["budget"]["amount"] == 100_000
        assert last["budget"]["share"] == last["budget"]["spent"] / 100_000


def test_server_sent_events_tell_the_same_and_end_for_good(thresher: Thresher) -> None:
    with running_model_server(latency=0.1) as model, running_server(thresher, **by_model(model)) as server:
        model.hold(after=4)
        run_id = server.upload(message(30), paths=PATH).json()["run_id"]
        told = server_sent(server, run_id)
        retry, first = next(told), next(told)
        model.release()
        events = [first, *told]
        assert retry == {"retry": "1000"}
        states = [json.loads(event["data"]) for event in events]
        assert_law_one(states)
        assert [event["event"] for event in events] == [state["event"] for state in states]
        assert [event["id"].split("-")[0] for event in events] == [str(state["number"]) for state in states]
        address, last_id = f"/api/v1/runs/{run_id}/events", events[-1]["id"]
        assert server.client.get(address, headers={"Last-Event-ID": last_id}).status_code == 204
        again = list(server_sent(server, run_id, **{"Last-Event-ID": events[0]["id"]}))
        assert [event["event"] for event in again[1:]] == ["finished"]
        assert server.client.post(f"/api/v1/runs/{run_id}/cancel").status_code == 409


def test_a_run_that_is_retried_is_told_anew(thresher: Thresher) -> None:
    with running_model_server(latency=0.1) as model, running_server(thresher, **by_model(model)) as server:
        model.hold(after=4)
        run_id = server.upload(message(40), paths=PATH).json()["run_id"]
        server.until(run_id, lambda run: run["nodes"]["succeeded"] >= 4)
        server.client.post(f"/api/v1/runs/{run_id}/cancel")
        until_stopping(server, run_id)
        model.release()
        first = list(server_sent(server, run_id))
        assert json.loads(first[-1]["data"])["status"] == "cancelled"
        server.client.post(f"/api/v1/runs/{run_id}/retry", json={"cancelled": True})
        again = list(server_sent(server, run_id, **{"Last-Event-ID": first[-1]["id"]}))
        assert json.loads(again[-1]["data"])["status"] == "succeeded"
        assert_law_one([json.loads(event["data"]) for event in again[1:]])


def refusal(server: object, run_id: str, query: str = "", **headers: str) -> tuple[int, str]:
    """How a WebSocket is refused: status and type of the problem."""
    with pytest.raises(InvalidStatus) as refused, looking_on(server, run_id, query, **headers):  # type: ignore[arg-type]
        pass
    answer = refused.value.response
    return answer.status_code, json.loads(answer.body or b"{}")["type"]


def test_what_is_not_there_or_belongs_to_others_is_refused_before_it_is_accepted(thresher: Thresher) -> None:
    ours, theirs = key(thresher, "--workspace", "ours"), key(thresher, "--workspace", "theirs", "--role", "read")
    with running_server(thresher, key=ours) as server:
        run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
        mine, foreign = ({"Authorization": f"Bearer {secret}"} for secret in (ours, theirs))
        assert refusal(server, run_id) == (401, "/problems/unauthenticated")
        assert refusal(server, run_id, **foreign) == (404, "/problems/not-found")
        assert refusal(server, "r00000000000x", **mine) == (404, "/problems/not-found")
        assert refusal(server, run_id, "?workspace=a/b", **mine) == (422, "/problems/invalid-request")
        problem(server.client.get(f"/api/v1/runs/{run_id}/events", headers=foreign), 404, "not-found")
        with looking_on(server, run_id, **mine) as connection:
            assert until_closed(connection)[1] == 1000


def test_a_ticket_opens_one_stream_once_and_on_every_server(thresher: Thresher) -> None:
    ours, theirs = key(thresher, "--workspace", "ours"), key(thresher, "--workspace", "theirs")
    with running_server(thresher, key=ours) as one, running_server(thresher, key=ours) as other:
        run_id = one.upload(SMALL, query={"wait": 30}).json()["run_id"]

        def ticket(secret: str) -> str:
            answer = one.client.post("/api/v1/tickets", headers={"Authorization": f"Bearer {secret}"})
            assert answer.status_code == 201, answer.text
            return f"?token={answer.json()['token']}"

        query = ticket(ours)
        with looking_on(other, run_id, query) as connection:
            assert until_closed(connection)[1] == 1000
        for server in (one, other):
            assert refusal(server, run_id, query) == (401, "/problems/unauthenticated")
        assert refusal(one, run_id, ticket(theirs)) == (404, "/problems/not-found")
        assert refusal(one, run_id, "?token=none") == (401, "/problems/unauthenticated")
        events = one.client.get(f"/api/v1/runs/{run_id}/events{ticket(ours)}", headers={"Authorization": ""})
        assert "event: finished" in events.text
        query = ticket(ours)
        (listed,) = (found for found in thresher("keys", "list", "--json").json if found["workspace"] == "ours")
        assert thresher("keys", "revoke", listed["key_id"]).code == 0
        assert refusal(one, run_id, query) == (401, "/problems/unauthenticated")


def test_pages_of_other_sites_do_not_look_on(thresher: Thresher) -> None:
    with running_server(thresher) as server:
        run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
        assert refusal(server, run_id, Origin="https://elsewhere.example") == (403, "/problems/foreign-origin")
        with looking_on(server, run_id, Origin=server.address) as connection:
            assert until_closed(connection)[1] == 1000
