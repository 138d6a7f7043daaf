"""Whether a server says that it cannot work, and asks the model's server no more often than it has to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2
import psycopg
import pytest
from command import GUARD, Thresher
from server import running_server
from sqlalchemy import make_url

from thresher.api.routes.health import FRESH


class _Models(BaseHTTPRequestHandler):
    """The list of models of a provider that takes its time, and counts."""

    asked = 0
    status = 200

    def do_GET(self) -> None:  # as the base class calls it
        type(self).asked += 1
        time.sleep(0.3)
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Says nothing."""


@contextmanager
def models_listed(answers: int = 200) -> Iterator[tuple[type[_Models], str]]:
    handler = type("Models", (_Models,), {"asked": 0, "status": answers})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def by(address: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "sk-test", "LLM_MODEL": "test-model"}


def test_many_who_ask_are_one_question_to_the_model_s_server(thresher: Thresher) -> None:
    with models_listed() as (handler, address), running_server(thresher, **by(address)) as server:
        began = time.monotonic()
        with ThreadPoolExecutor(30) as askers:
            asked = list(askers.map(lambda _: httpx2.get(f"{server.address}/ready", trust_env=False), range(60)))
        assert {answer.status_code for answer in asked} == {200}
        assert handler.asked <= 1 + (time.monotonic() - began) / FRESH, "once for each few seconds that this took"


@pytest.mark.parametrize(("status", "says"), [(401, "refuses the key"), (302, "redirects")])
def test_a_model_that_does_not_answer_makes_the_server_unready(thresher: Thresher, status: int, says: str) -> None:
    with models_listed(status) as (_, address), running_server(thresher, **by(address)) as server:
        answer = server.client.get("/ready")
        found = answer.json()
        assert (answer.status_code, found["ready"], found["database"]["ok"]) == (503, False, True)
        assert not found["model"]["ok"]
        assert says in found["model"]["detail"]


def test_a_model_s_server_that_is_away_and_comes_back_is_seen(thresher: Thresher) -> None:
    with models_listed() as (_, address):
        pass  # its port is free again
    with running_server(thresher, **by(address)) as server:
        answer = server.client.get("/ready")
        assert (answer.status_code, answer.json()["model"]["ok"]) == (503, False)
        assert server.client.get("/health").status_code == 200
        port = make_url(address).port or 0
        with ThreadingHTTPServer(("127.0.0.1", port), _Models) as back:
            Thread(target=back.serve_forever, daemon=True).start()
            until = time.monotonic() + GUARD
            while server.client.get("/ready").status_code != 200:
                assert time.monotonic() < until
                time.sleep(0.2)
            back.shutdown()


@pytest.mark.postgres
def test_a_database_that_is_gone_or_of_another_version_is_told(thresher: Thresher, postgres_url: str) -> None:
    with running_server(thresher, DATABASE_URL=postgres_url) as server:
        with psycopg.connect(postgres_url, autocommit=True) as database:
            database.execute("UPDATE alembic_version SET version_num = '0001'")
        found = until_unready(server.client)
        assert (found["database"]["ok"], found["migrations"]["ok"]) == (True, False)
        assert "thresher db upgrade" in found["migrations"]["detail"]
        name = make_url(postgres_url).database
        with psycopg.connect(postgres_url.replace(f"/{name}", "/postgres"), autocommit=True) as maintenance:
            maintenance.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            until = time.monotonic() + GUARD
            while server.client.get("/ready").json()["database"]["ok"]:
                assert time.monotonic() < until
                time.sleep(0.2)
            answer = server.client.get("/api/v1/runs/")
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert server.client.get("/health").status_code == 200
            maintenance.execute(f'CREATE DATABASE "{name}"')  # which the fixture drops


def until_unready(client: httpx2.Client) -> dict[str, dict[str, object]]:
    until = time.monotonic() + GUARD
    while (answer := client.get("/ready")).status_code == 200:
        assert time.monotonic() < until
        time.sleep(0.2)
    found: dict[str, dict[str, object]] = answer.json()
    return found
