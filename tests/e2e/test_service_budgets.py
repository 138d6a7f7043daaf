"""Documents that are read again, budgets over HTTP, and what sentences say to people without a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import Thresher
from onlookers import until_stopping
from server import RunningServer, running_server

from thresher.testing.model_server import running_model_server

PATH = "/PaxList/Pax"


def message(count: int) -> bytes:
    """``count`` passengers of their own text."""
    pax = "".join(f"<Pax><Id>P{number}</Id><Note>desk {number * 13}</Note></Pax>" for number in range(count))
    return f"<PaxList>{pax}</PaxList>".encode()


def begun(server: RunningServer, **fields: str) -> Any:
    """The answer to a form without a document."""
    return server.client.post("/api/v1/runs/", files={name: (None, value) for name, value in fields.items()})


def problem(answer: Any, status: int, name: str) -> str:
    found = answer.json()
    assert (answer.status_code, found["type"]) == (status, f"/problems/{name}"), found
    assert "thresher" not in found["detail"], "no command helps who is not at a terminal"
    return str(found["detail"])


def test_a_document_that_is_kept_is_read_again(thresher: Thresher) -> None:
    with running_server(thresher) as server:
        first = server.upload(message(3), "pax.xml", query={"wait": 30}).json()
        answer = begun(server, source=first["source_id"], paths=PATH, limit="2")
        assert answer.status_code == 202, answer.text
        second = server.until_ended(answer.json()["run_id"])
        assert (second["source_id"], second["file"]) == (first["source_id"], "pax.xml")
        assert (second["status"], second["subtrees_processed"]) == ("succeeded", 2)
        problem(begun(server, source="d0000"), 404, "not-found")
        problem(begun(server, paths=PATH), 422, "bad-input")
        both = server.upload(message(1), source=first["source_id"])
        assert "not both" in problem(both, 422, "bad-input")
        problem(begun(server, source=first["source_id"], colour="red"), 422, "invalid-request")


def test_a_document_whose_file_is_gone_is_not_read(thresher: Thresher) -> None:
    with running_server(thresher) as server:
        first = server.upload(message(3), "pax.xml", query={"wait": 30}).json()
        for path in (thresher.folder / "thresher-data" / "sources").rglob("*"):
            if path.is_file():
                path.unlink()
        assert "upload it again" in problem(begun(server, source=first["source_id"]), 404, "not-found")


def by_model(base_url: str, **more: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": base_url, "LLM_MODEL": "test-model", "CACHE_ANSWERS": "false", **more}


def test_a_budget_in_dollars_needs_a_price(thresher: Thresher) -> None:
    with running_model_server() as model, running_server(thresher, **by_model(model.base_url)) as server:
        detail = problem(server.upload(message(3), budget="$1"), 422, "bad-input")
        assert "test-model" in detail
        assert "PRICES_FILE" in detail
        assert server.client.get("/api/v1/runs/").json()["data"] == []
        run_id = server.upload(message(3), paths=PATH, budget="100ktokens", query={"wait": 30}).json()["run_id"]
        assert server.run(run_id)["status"] == "succeeded"


@pytest.fixture
def prices(tmp_path: Path) -> str:
    path = tmp_path / "prices.yaml"
    path.write_text("models: {test-model: {input: 1000, output: 1000}}\n", encoding="utf-8")
    return str(path)


def test_a_run_whose_budget_is_used_up_goes_on_with_a_new_one(thresher: Thresher, prices: str) -> None:
    with running_model_server() as model:
        settings = by_model(model.base_url, PRICES_FILE=prices, MAX_PARALLEL_NODES="1", PROCESSING_MODE="parallel")
        with running_server(thresher, **settings) as server:
            run_id = server.upload(message(30), paths=PATH, budget="$12").json()["run_id"]
            paused = server.until(run_id, lambda run: run["status"] == "paused")
            assert paused["error"]["class"] == "BudgetExhausted"
            assert 0 < paused["nodes"]["succeeded"] < 30
            address = f"/api/v1/runs/{run_id}/resume"
            problem(server.client.post(address, json={"budget": "a lot"}), 422, "invalid-request")
            assert server.client.post(address, json={"budget": None}).status_code == 200
            ended = server.until_ended(run_id)
            assert (ended["status"], ended["subtrees_processed"]) == ("succeeded", 30)


def test_sentences_over_http_name_no_command(thresher: Thresher) -> None:
    with running_model_server() as model, running_server(thresher, **by_model(model.base_url)) as server:
        model.hold()
        run_id = server.upload(message(30), paths=PATH).json()["run_id"]
        server.until(run_id, lambda run: run["nodes"]["running"] > 0)
        server.client.post(f"/api/v1/runs/{run_id}/cancel")
        problem(server.client.post(f"/api/v1/runs/{run_id}/pause"), 409, "state-conflict")
        until_stopping(server, run_id)
        model.release()
        server.until_ended(run_id)
        for action, body in (("pause", None), ("resume", None), ("retry", {}), ("retry", {"items": ["9"]})):
            answer = server.client.post(f"/api/v1/runs/{run_id}/{action}", json=body)
            problem(answer, 409, "state-conflict")
        problem(
            server.client.post(f"/api/v1/runs/{run_id}/retry", json={"items": ["x"], "cancelled": True}),
            404,
            "not-found",
        )
        problem(server.client.delete("/api/v1/runs/r0"), 404, "not-found")
        unknown = thresher("show", "x0")
        assert "`thresher runs` lists them" in unknown.err
