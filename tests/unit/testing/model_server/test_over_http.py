"""Every flag of the model server, over real HTTP to a real process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from math import ceil
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator

from thresher.testing.model_server import RunningModelServer, running_model_server

SERVER = [sys.executable, "-m", "thresher.testing.model_server"]
SERVICES = [
    f"<Service ID='SVC{n}'><PaxRef>PAX{n}</PaxRef><Price Code='EUR'>{n}.50</Price><Seats>{n}</Seats></Service>"
    for n in range(40)
]


class Client:
    """Speaks to a server over one connection that is kept, and opened anew where it was closed."""

    opened: ClassVar[list[Client]] = []

    def __init__(self, server: RunningModelServer, timeout: float = 20.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
        self.opened.append(self)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, path, body, named)
            reply = self._connection.getresponse()
            return reply.status, reply.headers, reply.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def post(self, subtree: str, schema: dict[str, Any] | None = None, **headers: str) -> tuple[int, Any, bytes]:
        return self.send("POST", "/v1/chat/completions", request(subtree, schema), **headers)

    def ask(self, subtree: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
        """The choice of a reply, with the reply's usage."""
        status, _, body = self.post(subtree, schema)
        assert status == 200, body
        reply = json.loads(body)
        return {**reply["choices"][0], "usage": reply["usage"]}

    def close(self) -> None:
        self._connection.close()


def request(subtree: str, schema: dict[str, Any] | None = None) -> bytes:
    asked: dict[str, Any] = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Extract facts from <xml>."},
            {"role": "user", "content": f"Section: a < b\n{subtree}\nThat is all."},
        ],
    }
    if schema is not None:
        wrapper = {"name": "answer", "strict": True, "schema": schema}
        asked["response_format"] = {"type": "json_schema", "json_schema": wrapper}
    return json.dumps(asked).encode()


def key(subtree: str) -> str:
    return sha256(subtree.encode()).hexdigest()


def content(choice: dict[str, Any]) -> Any:
    return json.loads(choice["message"]["content"])


def outcomes(server: RunningModelServer, rounds: int = 2) -> list[str]:
    """What each of 40 subtrees, asked for ``rounds`` times, came to."""
    client = Client(server)
    seen = []
    for subtree in SERVICES * rounds:
        try:
            status, _, body = client.post(subtree)
            seen.append(f"{status} {body.decode()}")
        except (OSError, http.client.HTTPException) as error:
            seen.append(type(error).__name__)
    return seen


@pytest.fixture(autouse=True)
def connections() -> Iterator[None]:
    yield
    while Client.opened:
        Client.opened.pop().close()


@pytest.fixture(scope="module")
def plain() -> Iterator[RunningModelServer]:
    with running_model_server() as server:
        yield server


@pytest.fixture
def server(plain: RunningModelServer) -> RunningModelServer:
    plain.reset()
    return plain


@pytest.fixture
def client(server: RunningModelServer) -> Client:
    return Client(server)


# Answers --------------------------------------------------------------------------------------------------------------


def test_answer_is_a_chat_completion_that_reads_the_subtree(client: Client) -> None:
    choice = client.ask(SERVICES[3])
    answer = content(choice)
    assert choice["finish_reason"] == "stop"
    assert answer["node_type"] == "Service"
    assert {entry["path"]: entry["value"] for entry in answer["fields"]} == {
        "@ID": "SVC3",
        "PaxRef": "PAX3",
        "Price": "3.50",
        "Price/@Code": "EUR",
        "Seats": "3",
    }
    assert [entry["value"] for entry in answer["references"]] == ["PAX3"]
    length = len("Extract facts from <xml>.") + len(f"Section: a < b\n{SERVICES[3]}\nThat is all.")
    assert choice["usage"]["prompt_tokens"] == length // 4
    assert choice["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert choice["usage"]["completion_tokens"] == len(choice["message"]["content"]) // 4


def test_any_schema_is_answered(client: Client) -> None:
    schema = {
        "type": "object",
        "properties": {
            "seats": {"type": "integer"},
            "kind": {"enum": ["a", "b"]},
            "price": {"type": ["number", "null"]},
        },
        "required": ["seats", "kind", "price"],
        "additionalProperties": False,
    }
    answer = content(client.ask(SERVICES[7], schema))
    Draft202012Validator(schema).validate(answer)
    assert answer == {"seats": 7, "kind": "a", "price": 7.5}


def test_subtree_of_an_earlier_message_counts_where_the_last_one_has_none(client: Client) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": f"Read:\n{SERVICES[1]}"}]},
        {"role": "assistant", "content": "<Wrong/>"},
        {"role": "user", "content": "That was no JSON. Try again."},
    ]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    _, _, reply = client.send("POST", "/v1/chat/completions", body)
    assert content(json.loads(reply)["choices"][0])["node_type"] == "Service"


@pytest.mark.parametrize("prompt", ["", "Hello!", "a < b > c", "<not xml", "<a><b></a>"])
def test_prompt_without_xml_is_answered_with_nothing_found(client: Client, prompt: str) -> None:
    assert content(client.ask(prompt))["fields"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"messages": []}',
        b'{"messages": ["x"]}',
        b'{"messages": [{"role": "user", "content": "x"}], "stream": true}',
        b'{"messages": [{}], "response_format": {"type": "json_schema", "json_schema": {"schema": 4}}}',
        b"\xff\xfe",
    ],
)
def test_request_that_is_no_chat_completion_gets_400_with_a_reason(client: Client, body: bytes) -> None:
    status, _, reply = client.send("POST", "/v1/chat/completions", body)
    assert status == 400
    assert json.loads(reply)["error"]["message"].startswith("Invalid request: ")


def test_paths_of_azure_are_served_too(client: Client) -> None:
    path = "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    status, _, body = client.send("POST", path, request(SERVICES[0]))
    assert (status, content(json.loads(body)["choices"][0])["node_type"]) == (200, "Service")


def test_models_and_health_answer_and_unknown_paths_and_methods_are_refused(client: Client) -> None:
    assert json.loads(client.send("GET", "/v1/models")[2])["data"][0]["object"] == "model"
    assert client.send("GET", "/health")[0] == 200
    assert client.send("GET", "/v1/nothing")[0] == 404
    assert client.send("GET", "/v1/chat/completions")[0] == 405
    assert client.send("POST", "/v1/models")[0] == 405


# HTTP -----------------------------------------------------------------------------------------------------------------


def exchange(server: RunningModelServer, *parts: bytes) -> bytes:
    """Everything that a server says to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_connection_is_kept_for_many_requests(server: RunningModelServer, client: Client) -> None:
    for subtree in SERVICES:
        client.ask(subtree)
    assert server.stats()["max_connections"] <= 3  # this one, and those of reset and stats


def test_requests_sent_at_once_are_answered_in_order(server: RunningModelServer) -> None:
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    said = exchange(server, health, health, health[:-2] + b"Connection: close\r\n\r\n")
    assert said.count(b"HTTP/1.1 200 OK") == 3


def test_chunked_body_is_read(server: RunningModelServer) -> None:
    body = request(SERVICES[2])
    chunks = b"%x\r\n%b\r\n%x;ext=1\r\n%b\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert b"SVC2" in exchange(server, head, chunks[:30], chunks[30:])


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, b"431"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_bytes_that_are_no_request_are_refused_and_the_connection_closed(
    server: RunningModelServer, said: bytes, status: bytes
) -> None:
    assert exchange(server, said).startswith(b"HTTP/1.1 " + status)
    assert server.stats()["requests"] == 0


# Counting -------------------------------------------------------------------------------------------------------------


def test_requests_are_counted_for_each_subtree(server: RunningModelServer, client: Client) -> None:
    for subtree in (SERVICES[0], SERVICES[1], SERVICES[0]):
        client.ask(subtree)
    stats = server.stats()
    assert (stats["requests"], stats["answered"], stats["paid"]) == (3, 3, 3)
    assert stats["subtrees"][key(SERVICES[0])] == {
        "excerpt": SERVICES[0][:80],
        "requests": 2,
        "rate_limited": 0,
        "paid": 2,
        "answered": 2,
        "lies": 0,
    }
    assert stats["subtrees"][key(SERVICES[1])]["requests"] == 1


def test_reset_forgets_every_count(server: RunningModelServer, client: Client) -> None:
    client.ask(SERVICES[0])
    server.reset()
    stats = server.stats()
    assert (stats["requests"], stats["subtrees"], stats["max_concurrency"]) == (0, {}, 0)


def until_counted(server: RunningModelServer, what: str, many: int) -> dict[str, Any]:
    """The statistics as soon as they count so many."""
    deadline = time.monotonic() + 30
    while (stats := server.stats())[what] != many:
        assert time.monotonic() < deadline, stats
        time.sleep(0.01)
    return stats


# Time -----------------------------------------------------------------------------------------------------------------


def test_latency_passes_before_an_answer_and_requests_wait_side_by_side() -> None:
    with running_model_server(latency=0.3) as server:
        started = time.monotonic()
        Client(server).ask(SERVICES[0])
        assert time.monotonic() - started >= 0.3
    with running_model_server(latency=300) as server, ExitStack() as waiting:
        for subtree in SERVICES[:8]:
            connection = waiting.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            body = request(subtree)
            head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
        until_counted(server, "concurrency", 8)
        assert server.stats()["max_concurrency"] == 8


def test_client_that_leaves_is_counted_as_paid_and_abandoned() -> None:
    with running_model_server(latency=30) as server:
        client = Client(server, timeout=0.2)
        with pytest.raises(TimeoutError):
            client.post(SERVICES[0])
        stats = until_counted(server, "abandoned", 1)
    assert (stats["paid"], stats["answered"], stats["abandoned"], stats["concurrency"]) == (1, 0, 1, 0)


# Holding --------------------------------------------------------------------------------------------------------------


def test_held_answers_wait_for_the_release_and_the_first_ones_do_not() -> None:
    with running_model_server() as server, ThreadPoolExecutor(3) as pool:
        server.hold(after=2)
        for subtree in SERVICES[:2]:
            Client(server).ask(subtree)
        waiting = [pool.submit(Client(server).ask, subtree) for subtree in SERVICES[2:5]]
        server.until_held(3)
        stats = server.stats()
        assert (stats["held"], stats["answered"], stats["concurrency"]) == (3, 2, 3)
        assert not any(answer.done() for answer in waiting)
        server.release()
        assert [content(answer.result())["node_type"] for answer in waiting] == ["Service"] * 3
        Client(server).ask(SERVICES[5])
        stats = server.stats()
    assert (stats["held"], stats["answered"], stats["concurrency"], stats["abandoned"]) == (0, 6, 0, 0)


def test_a_higher_hold_gives_those_that_are_now_among_the_first() -> None:
    with running_model_server() as server, ThreadPoolExecutor(3) as pool:
        server.hold(after=0)
        waiting = []
        for count, subtree in enumerate(SERVICES[:3], start=1):
            waiting.append(pool.submit(Client(server).ask, subtree))
            server.until_held(count)
        server.hold(after=2)
        assert [content(answer.result())["fields"][0]["value"] for answer in waiting[:2]] == ["SVC0", "SVC1"]
        assert (server.stats()["held"], waiting[2].done()) == (1, False)
        server.hold(after=1)
        assert server.stats()["held"] == 1
        server.release()
        waiting[2].result()


def test_a_hold_keeps_what_already_waits_for_its_latency() -> None:
    with running_model_server(latency=2.0) as server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Client(server).ask, SERVICES[0])
        while not server.stats()["concurrency"]:
            assert not waiting.done()
        server.hold()
        server.until_held(1)
        server.release()
        assert content(waiting.result())["node_type"] == "Service"


def test_faults_are_held_like_answers_and_refusals_are_not() -> None:
    with running_model_server(error_500=1.0, rate=0.01, burst=1) as server, ThreadPoolExecutor(1) as pool:
        server.hold()
        waiting = pool.submit(Client(server).post, SERVICES[0])
        server.until_held(1)
        assert Client(server).post(SERVICES[1])[0] == 429
        server.release()
        assert waiting.result()[0] == 500


def test_client_that_leaves_while_it_is_held_is_abandoned() -> None:
    with running_model_server() as server:
        server.hold()
        with pytest.raises(TimeoutError):
            Client(server, timeout=0.2).post(SERVICES[0])
        while server.stats()["held"]:
            pass
        server.release()
        stats = server.stats()
    assert (stats["paid"], stats["answered"], stats["abandoned"], stats["concurrency"]) == (1, 0, 1, 0)


def test_reset_counts_anew_and_releases_nothing() -> None:
    with running_model_server() as server, ThreadPoolExecutor(2) as pool:
        server.hold(after=1)
        Client(server).ask(SERVICES[0])
        waiting = [pool.submit(Client(server).ask, SERVICES[1])]
        server.until_held(1)
        server.reset()
        assert server.stats()["held"] == 1
        Client(server).ask(SERVICES[2])
        waiting.append(pool.submit(Client(server).ask, SERVICES[3]))
        server.until_held(2)
        server.release()
        assert [content(answer.result())["node_type"] for answer in waiting] == ["Service"] * 2


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"after": -1}', b'{"after": "x"}', b'{"after": null}'])
def test_a_hold_of_what_is_no_number_is_refused(client: Client, server: RunningModelServer, body: bytes) -> None:
    assert client.send("POST", "/hold", body)[0] == 400
    assert content(client.ask(SERVICES[0]))["node_type"] == "Service"
    assert server.stats()["held"] == 0


def test_who_waits_for_a_hold_that_does_not_come_is_told(server: RunningModelServer) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 answers wait"):
        server.until_held(1, timeout=0.1)


# Limits ---------------------------------------------------------------------------------------------------------------


def test_requests_over_the_rate_get_429_and_are_not_paid() -> None:
    with running_model_server(rate=0.01, burst=3) as server:
        client = Client(server)
        replies = [client.post(SERVICES[0]) for _ in range(5)]
        stats = server.stats()
    assert [status for status, _, _ in replies] == [200, 200, 200, 429, 429]
    assert json.loads(replies[-1][2])["error"]["code"] == "rate_limit_exceeded"
    assert not [name for name in replies[-1][1] if name.lower().startswith(("retry-after", "x-ratelimit"))]
    assert (stats["rate_limited"], stats["paid"], stats["subtrees"][key(SERVICES[0])]["rate_limited"]) == (2, 3, 2)


def test_the_limit_can_be_changed_while_it_serves() -> None:
    with running_model_server(rate=0.01, burst=1) as server:
        client = Client(server)
        assert [client.post(SERVICES[0])[0] for _ in range(2)] == [200, 429]
        server.change_limit(1_000.0, 1_000)
        for _ in range(3):
            while client.post(SERVICES[0])[0] == 429:  # a thousand a second come back
                pass


def test_slow_requests_take_ten_times_as_long() -> None:
    with running_model_server(latency=0.05, slow=1.0) as server:
        started = time.monotonic()
        Client(server).ask(SERVICES[0])
        assert time.monotonic() - started > 0.45
        assert server.stats()["slow"] == 1


def test_rate_headers_say_what_is_left_and_when_all_is_back() -> None:
    with running_model_server(rate=0.1, burst=4, rate_headers=True) as server:
        client = Client(server)
        headers = [client.post(SERVICES[0])[1] for _ in range(2)][-1]
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("4", "2")
    assert 10 < float(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 20
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("40000", "20000")


def test_retry_after_says_when_the_next_request_is_let_in_and_earlier_ones_are_counted() -> None:
    with running_model_server(rate=0.001, burst=1, retry_after=True) as server:
        client = Client(server)
        client.ask(SERVICES[0])
        status, headers, _ = client.post(SERVICES[0])
        assert status == 429
        assert 900_000 < int(headers["retry-after-ms"]) <= 1_000_000
        assert int(headers["retry-after"]) == ceil(int(headers["retry-after-ms"]) / 1000)
        assert client.post(SERVICES[0])[0] == 429
        assert server.stats()["too_early"] == 1


# Faults ---------------------------------------------------------------------------------------------------------------


def test_error_500_takes_about_its_share_and_a_retry_may_succeed() -> None:
    with running_model_server(error_500=0.3) as server:
        seen = outcomes(server)
        stats = server.stats()
    failed = [said.startswith("500 ") for said in seen]
    assert 10 <= sum(failed) <= 40
    assert stats["error_500"] == sum(failed)
    assert stats["paid"] == stats["answered"] == 80 - sum(failed)
    assert any(first and not second for first, second in zip(failed[:40], failed[40:], strict=True))


def test_drop_closes_the_connection_without_an_answer() -> None:
    with running_model_server(drop=1) as server:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            Client(server).post(SERVICES[0])
        assert server.stats()["drop"] == 1


def test_hang_never_answers() -> None:
    with running_model_server(hang=1) as server:
        with pytest.raises(TimeoutError):
            Client(server, timeout=0.3).post(SERVICES[0])
        stats = server.stats()
    assert (stats["hang"], stats["paid"], stats["answered"]) == (1, 1, 0)


def test_truncate_cuts_the_json_and_says_length() -> None:
    with running_model_server(truncate=1) as server:
        choice = Client(server).ask(SERVICES[0])
        stats = server.stats()
    assert choice["finish_reason"] == "length"
    with pytest.raises(json.JSONDecodeError):
        content(choice)
    assert (stats["truncate"], stats["answered"], stats["paid"]) == (1, 0, 1)


def test_fence_and_prose_stand_around_the_json() -> None:
    with running_model_server(fence=1, prose=1) as server:
        text = Client(server).ask(SERVICES[0])["message"]["content"]
        stats = server.stats()
    before, fenced, after = text.split("```")
    assert before.startswith("Sure!")
    assert json.loads(fenced.removeprefix("json"))["node_type"] == "Service"
    assert after.strip().startswith("Let me know")
    assert (stats["fence"], stats["prose"], stats["answered"]) == (1, 1, 1)


def test_html_is_a_page_with_status_200() -> None:
    with running_model_server(html=1) as server:
        status, headers, body = Client(server).post(SERVICES[0])
    assert (status, headers["content-type"]) == (200, "text/html")
    assert body.startswith(b"<!doctype html>")


def test_lies_are_exactly_those_that_the_statistics_name() -> None:
    with running_model_server(lie=0.3) as server:
        client = Client(server)
        wrong = set()
        for subtree in SERVICES:
            truth = {"@ID", "PaxRef", "Price", "Price/@Code", "Seats"}
            for field in content(client.ask(subtree))["fields"]:
                assert field["path"] in truth
                if field["value"] not in subtree:
                    wrong.add((key(subtree), field["path"], field["value"]))
        told = server.stats()["lies"]
    assert {(lie["subtree"], lie["path"], lie["value"]) for lie in told} == wrong
    assert len(told) == len(wrong)
    assert 40 <= len(wrong) <= 80  # 0.3 of 200


def test_lies_about_a_record_keep_to_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "record": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "maxLength": 5},
                    "seats": {"type": "integer", "minimum": 0, "maximum": 100},
                    "price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                    "price_code": {"enum": ["EUR", "USD"]},
                },
                "required": ["id", "seats", "price", "price_code"],
            },
            "proofs": {
                "type": "array",
                "items": {"type": "object", "properties": {"pointer": {"type": "string"}, "path": {"type": "string"}}},
            },
            "confidence": {"type": "number"},
        },
        "required": ["record", "proofs", "confidence"],
    }
    with running_model_server(lie=1) as server:
        answer = content(Client(server).ask(SERVICES[5], schema))
        told = server.stats()["lies"]
    Draft202012Validator(schema).validate(answer)
    assert {(lie["pointer"], lie["path"]) for lie in told} == {
        ("/record/id", "@ID"),
        ("/record/seats", "Seats"),
        ("/record/price", "Price"),
        ("/record/price_code", "Price/@Code"),
    }
    assert answer["record"]["price_code"] == "USD"
    assert {str(answer["record"][name]) for name in ("id", "seats", "price")}.isdisjoint({"SVC5", "5", "5.5"})


def test_fail_matching_fails_these_subtrees_always_and_no_others() -> None:
    with running_model_server(fail_matching="SVC7'") as server:
        client = Client(server)
        assert [client.post(SERVICES[7])[0] for _ in range(3)] == [500, 500, 500]
        assert client.post(SERVICES[8])[0] == 200
        assert (server.stats()["failed_matching"], server.stats()["paid"]) == (3, 1)


def test_fail_status_is_what_they_fail_with() -> None:
    with running_model_server(fail_matching="Service", fail_status=422) as server:
        assert Client(server).post(SERVICES[0])[0] == 422


def test_unauthorized_refuses_everybody() -> None:
    with running_model_server(unauthorized=True) as server:
        client = Client(server)
        assert client.post(SERVICES[0], authorization="Bearer any")[0] == 401
        assert client.send("GET", "/v1/models")[0] == 401
        assert client.send("GET", "/health")[0] == 200
        assert (server.stats()["unauthorized"], server.stats()["paid"]) == (1, 0)


def test_api_key_lets_its_holder_in_and_nobody_else() -> None:
    with running_model_server(unauthorized=True, api_key="right") as server:
        client = Client(server)
        assert client.post(SERVICES[0])[0] == 401
        assert client.post(SERVICES[0], authorization="Bearer wrong")[0] == 401
        assert client.post(SERVICES[0], authorization="Bearer right")[0] == 200
        assert client.post(SERVICES[0], api_key="right")[0] == 200


def test_same_seed_draws_the_same_and_another_seed_does_not() -> None:
    faults = {"error_500": 0.2, "drop": 0.1, "truncate": 0.1, "fence": 0.2, "prose": 0.2, "html": 0.1, "lie": 0.2}
    with running_model_server(**faults, seed=1) as one, running_model_server(**faults, seed=1) as same:
        first = outcomes(one)
        assert outcomes(same) == first
        one.reset()
        assert outcomes(one) == first
    with running_model_server(**faults, seed=2) as other:
        assert outcomes(other) != first


# The process ----------------------------------------------------------------------------------------------------------


def started(*arguments: str, **pipes: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*SERVER, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True, **pipes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly_with_requests_in_hand(number: signal.Signals) -> None:
    process = started("--hang", "1", stderr=subprocess.PIPE)
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("Model server at ").strip()
    port = int(address.removesuffix("/v1").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as waiting:
        body = request(SERVICES[0])
        waiting.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")


def test_it_ends_when_standard_input_does() -> None:
    process = started("--json", "--until-stdin-closes", stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["pid"] == process.pid
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_context_manager_ends_its_server_also_when_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), running_model_server() as server:
        raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        Client(server).send("GET", "/health")


def test_context_manager_says_why_a_server_did_not_start() -> None:
    with pytest.raises(RuntimeError, match="'2' is no float from 0 to 1"), running_model_server(lie=2):
        pass


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--host", "0.0.0.0"), "no loopback address"),  # noqa: S104  # must be refused
        (("--host", "example.org"), "no loopback address"),
        (("--port", "70000"), "no int from 0 to 65535"),
        (("--lie", "1.5"), "no float from 0 to 1"),
        (("--drop", "nan"), "no float from 0 to 1"),
        (("--latency", "-1"), "no float from 0"),
        (("--rate", "0"), "no float from 0.001"),
        (("--rate-headers",), "give --rate too"),
        (("--retry-after",), "give --rate too"),
        (("--fail-status", "200"), "no int from 400 to 599"),
        (("--unknown",), "unrecognized arguments"),
    ],
)
def test_bad_flag_is_refused_with_a_reason(arguments: tuple[str, ...], reason: str) -> None:
    ended = subprocess.run([*SERVER, *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert reason in ended.stderr


def test_taken_port_is_one_sentence() -> None:
    with running_model_server() as server:
        command = [*SERVER, "--port", str(server.port)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert str(server.port) in ended.stderr


def test_many_connections_are_served_at_once(server: RunningModelServer) -> None:
    barrier = threading.Barrier(64)

    def ask(subtree: str) -> int:
        client = Client(server)
        barrier.wait()
        status, _, _ = client.post(subtree)
        return status

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(ask, (SERVICES * 2)[:64])) == {200}
    assert server.stats()["answered"] == 64
