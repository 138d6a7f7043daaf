"""The page of dead letters: why nodes were given up, every try, and their way back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command import Thresher
from page_visitor import Visitor
from server import RunningServer, running_server

from thresher.core import errors
from thresher.operations.advice import advice_on
from thresher.testing.model_server import RunningModelServer, running_model_server

COUNT = 8
EVIL = "<script>alert(1)</script>"


def message() -> bytes:
    """Three of the nodes always fail."""
    notes = [f"desk {number}{' BOOM' if number in {2, 5, 6} else ''}" for number in range(COUNT)]
    return f"<PaxList>{''.join(f'<Pax><Note>{note}</Note></Pax>' for note in notes)}</PaxList>".encode()


@pytest.fixture(scope="module")
def model() -> Iterator[RunningModelServer]:
    with running_model_server(fail_matching="BOOM", fail_status=400) as model:
        yield model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: RunningModelServer) -> Iterator[RunningServer]:
    thresher = Thresher(tmp_path_factory.mktemp("dead"))
    asked = {"OPENAI_BASE_URL": model.base_url, "LLM_MODEL": "test-model", "PROCESSING_MODE": "parallel"}
    with running_server(thresher, **asked, MAX_RETRIES="1", RETRY_BASE_SECONDS="0.01") as server:
        yield server


@pytest.fixture
def visitor(server: RunningServer) -> Iterator[Visitor]:
    with Visitor(server) as visitor:
        yield visitor


def dead_run(server: RunningServer) -> str:
    ended = server.upload(message(), paths="/PaxList/Pax", query={"wait": 60}).json()
    assert (ended["status"], ended["nodes"]["dead"]) == ("partial", 3), ended
    return str(ended["run_id"])


def tries(server: RunningServer, run_id: str) -> list[int]:
    letters = server.client.get(f"/api/v1/runs/{run_id}/dead-letters").json()["data"]
    return [letter["attempts"] for letter in letters]


def until_ended_again(server: RunningServer, run_id: str, expected: list[int]) -> None:
    server.until(run_id, lambda run: run["finished_at"] is not None and tries(server, run_id) == expected)


def test_dead_letters_are_grouped_by_what_helps(server: RunningServer, visitor: Visitor) -> None:
    page = visitor.open(f"/runs/{dead_run(server)}/dead-letters")
    assert page.status == 200
    assert page.texts("//ul[@class='reasons']//h3") == ["PermanentLLMError 3 nodes"]
    assert advice_on("PermanentLLMError") in page.text
    assert page.texts("//article//h3") == ["/PaxList/Pax[3]", "/PaxList/Pax[6]", "/PaxList/Pax[7]"]
    assert "This subtree always fails." in page.text


def test_one_the_ticked_a_class_and_all_are_retried(server: RunningServer, visitor: Visitor) -> None:
    run_id = dead_run(server)
    address = f"/runs/{run_id}/dead-letters"

    def items() -> list[str]:
        return [box.get("value") for box in visitor.open(address).tree.xpath("//article//input[@name='item']")]

    def form() -> object:
        return next(form for form in visitor.open(address).tree.forms if "letters" in form.get("class", ""))

    sent = visitor.send(form(), ("one", items()[0]))
    assert sent.address == f"/runs/{run_id}"
    until_ended_again(server, run_id, [2, 1, 1])
    visitor.send(form(), item=items()[1:])
    until_ended_again(server, run_id, [2, 2, 2])
    group = visitor.open(address).tree.xpath("//ul[@class='reasons']//form")[0]
    visitor.send(group, ("error_class", "PermanentLLMError"))
    until_ended_again(server, run_id, [3, 3, 3])
    visitor.send(form(), ("all", "1"))
    until_ended_again(server, run_id, [4, 4, 4])


def test_nothing_ticked_retries_nothing(server: RunningServer, visitor: Visitor) -> None:
    run_id = dead_run(server)
    page = visitor.open(f"/runs/{run_id}/dead-letters")
    sent = visitor.send(next(form for form in page.tree.forms if "letters" in form.get("class", "")))
    assert sent.status == 422
    assert sent.texts("//*[@role='alert']") == ["Tick at least one node, or retry all of them."]
    assert tries(server, run_id) == [1, 1, 1]


def test_a_form_without_its_token_retries_nothing(server: RunningServer, visitor: Visitor) -> None:
    run_id = dead_run(server)
    visitor.open(f"/runs/{run_id}/dead-letters")
    assert visitor.client.post(f"/runs/{run_id}/dead-letters/retry", data={"all": "1"}).status_code == 403
    assert tries(server, run_id) == [1, 1, 1]


def test_raw_answers_and_errors_stay_text(thresher: Thresher) -> None:
    """The model answers about a node that holds a script, and its answer is cut off."""
    document = f"<PaxList><Pax><Note><![CDATA[{EVIL}]]></Note></Pax></PaxList>".encode()
    with running_model_server(truncate=1.0) as model:
        asked = {"OPENAI_BASE_URL": model.base_url, "LLM_MODEL": "test-model", "MAX_RETRIES": "0"}
        with running_server(thresher, **asked) as server, Visitor(server) as visitor:
            run_id = server.upload(document, paths="/PaxList/Pax", query={"wait": 60}).json()["run_id"]
            page = visitor.open(f"/runs/{run_id}/dead-letters")
            (letter,) = server.client.get(f"/api/v1/runs/{run_id}/dead-letters").json()["data"]
            assert page.texts("//article//pre") == [" ".join(letter["raw_answer"].split())]
            assert page.tree.xpath("//script[not(@src)]") == []
            file = visitor.client.get(page.tree.xpath("//details//a/@href")[0])
            assert file.text == letter["raw_answer"]
            assert file.headers["content-type"].startswith("text/plain")
            assert file.headers["content-disposition"].startswith("attachment")
            assert visitor.open(f"/runs/{run_id}/dead-letters/{letter['item_id']}/7.txt").status == 404


def test_a_run_without_dead_letters_says_so(thresher: Thresher) -> None:
    with running_server(thresher) as server, Visitor(server) as visitor:
        run_id = server.upload(message(), query={"wait": 60}).json()["run_id"]
        page = visitor.open(f"/runs/{run_id}/dead-letters")
        assert (page.status, "No dead letters" in page.text) == (200, True)
        assert visitor.open("/runs/nothing/dead-letters").status == 404
        assert visitor.open(f"/runs/{run_id}/dead-letters", after="x").status == 422


def test_every_error_of_ours_has_advice() -> None:
    defect = advice_on("KeyError")
    classes = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Exception)]
    silent = [found.__name__ for found in classes if advice_on(found.__name__) == defect]
    assert silent == ["ThresherError"]
    assert advice_on("WorkerLost") != defect
