"""What a run tells, and what it never tells."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from command import GUARD, Finished, Thresher
from sqlalchemy import make_url
from tests.collector import running_collector

from thresher.testing.model_server import RunningModelServer, running_model_server

KEY, PASSWORD, TOKEN = "sk-planted-0815-4711", "plantedPassw0rd", "plantedUserInfo"  # planted on purpose
PERSONAL = (
    "Plantana", "Mustermannova", "plantana@example.org", "4111111111111111", "C01X00T47", "1984-07-13",
    "+49 30 1234567", "Kaiserallee 117",
)  # fmt: skip
PLANTED = (KEY, PASSWORD, TOKEN, *PERSONAL)


def planted_document(folder: Path, count: int = 24) -> Path:
    """Passengers with everything that must not be told; each differs, so that each is asked for."""
    pax = "".join(
        f"<Pax><PaxID>P{number}</PaxID><Individual><GivenName>Plantana</GivenName><Surname>Mustermannova</Surname>"
        "<Birthdate>1984-07-13</Birthdate></Individual><EmailAddressText>plantana@example.org</EmailAddressText>"
        "<PhoneNumber>+49 30 1234567</PhoneNumber><StreetText>Kaiserallee 117</StreetText>"
        "<IdentityDoc><IdentityDocID>C01X00T47</IdentityDocID></IdentityDoc>"
        f"<PaymentCard><CardNumber>4111111111111111</CardNumber></PaymentCard><Note>meal {number}</Note></Pax>"
        for number in range(count)
    )
    file = folder / "planted.xml"
    file.write_text(f"<OrderViewRS><DataLists><PaxList>{pax}</PaxList></DataLists></OrderViewRS>", encoding="utf-8")
    return file


def by_faulty(server: RunningModelServer) -> dict[str, str]:
    """Unmasked, so that answers and errors hold the values themselves; every address has a password in it."""
    address = server.base_url.replace("http://", f"http://{TOKEN}:{PASSWORD}@")
    return {
        "OPENAI_BASE_URL": address,
        "OPENAI_API_KEY": KEY,
        "LLM_MODEL": "test-model",
        "MASK_PII": "false",
        "RETRY_BASE_SECONDS": "0.01",
        "MAX_RETRIES": "1",
        "LOG_LEVEL": "debug",
    }


def assert_nothing_planted(*told: str) -> None:
    for text in told:
        assert not [planted for planted in PLANTED if planted in text]


@pytest.mark.postgres
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_and_no_personal_data_is_told_whatever_goes_wrong(
    thresher: Thresher, tmp_path: Path, postgres_url: str, log_format: str
) -> None:
    document, log = planted_document(tmp_path), tmp_path / "thresher.log"
    faults = {"error_500": 0.1, "drop": 0.05, "truncate": 0.1, "prose": 0.1, "html": 0.05, "lie": 0.3}
    pages = list[str]()
    with (
        running_model_server(latency=0.02, rate=60.0, burst=5, retry_after=True, seed=3, **faults) as server,
        running_collector() as collector,
    ):
        port = free_port()
        environment = {
            **by_faulty(server),
            "DATABASE_URL": make_url(postgres_url).set(password=PASSWORD).render_as_string(hide_password=False),
            "LOG_FORMAT": log_format,
            "LOG_FILE": str(log),
            "METRICS_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        }
        server.hold(after=10)
        process = thresher.start("discover", document, "--path", "//Pax", "--json", **environment)
        while not has_ended(process):
            pages += scraped(port)
            if any("thresher_attempts_total" in page for page in pages):
                server.release()
        out, err = process.communicate(timeout=GUARD)
    assert process.returncode in (0, 3), err
    run = json.loads(out)["run_id"]
    lines = log.read_text("utf-8")
    assert "request ended" in lines
    assert "item retried" in lines
    assert any("thresher_attempts_total" in page for page in pages)
    spans = b"".join(collector.bodies).decode("utf-8", "replace")
    assert collector.spans()
    shown = [thresher(command, run, DATABASE_URL=postgres_url) for command in ("show", "dead")]
    assert_nothing_planted(err, lines, *pages, spans, *(text for one in shown for text in (one.out, one.err)))
    facts = thresher("facts", run, DATABASE_URL=postgres_url)
    assert "Plantana" in facts.out, "the values were there to be told"


def test_a_node_that_is_given_up_is_logged_without_what_is_in_it(thresher: Thresher, tmp_path: Path) -> None:
    document = planted_document(tmp_path, 3)
    with running_model_server(fail_matching="Plantana", fail_status=400) as server:
        done = thresher("discover", document, "--path", "//Pax", "--quiet", **by_faulty(server), LOG_FORMAT="json")
    assert done.code == 1
    assert "item dead" in done.err
    assert_nothing_planted(done.err)


def test_lines_of_a_run_can_be_filtered_by_run_item_and_attempt(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server(error_500=0.3, seed=1) as server:
        done = thresher(
            "discover", planted_document(tmp_path, 12), "--path", "//Pax", "--json", "--quiet",
            **{**by_faulty(server), "LOG_FORMAT": "json", "LOG_FILE": "run.log", "MAX_RETRIES": "5"},
        )  # fmt: skip
    run = done.json["run_id"]
    lines = [json.loads(line) for line in (tmp_path / "run.log").read_text("utf-8").splitlines()]
    of_run = [line for line in lines if line.get("correlation_id", "").split("/")[0] == run]
    assert [line["event"] for line in of_run if "item" not in line] == ["run started", "run planned", "run finished"]
    retried = next(line for line in of_run if line["event"] == "item retried")
    of_item = [line for line in of_run if line.get("item") == retried["item"]]
    assert {line["attempt"] for line in of_item} >= {1, 2}
    of_attempt = [line["event"] for line in of_item if line["correlation_id"] == retried["correlation_id"]]
    assert of_attempt[0] == "item started"
    assert sorted(of_attempt[1:]) == ["item retried", "request ended"]  # another thread may tell of the request
    assert retried["reason"].endswith("failed to answer (500).")


def test_a_port_that_is_taken_is_refused_before_anything_is_sent(thresher: Thresher, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = thresher("discover", planted_document(tmp_path, 1), METRICS_PORT=str(taken.getsockname()[1]))
    refused(done, "METRICS_PORT: 127.0.0.1:")


def test_a_log_file_that_cannot_be_written_is_refused(thresher: Thresher, tmp_path: Path) -> None:
    refused(thresher("discover", planted_document(tmp_path, 1), LOG_FILE="no/such/folder/log"), "LOG_FILE ")


def refused(done: Finished, beginning: str) -> None:
    assert done.code == 2, done.err
    assert done.err.startswith(f"Error: {beginning}")
    assert done.err.count("\n") == 1


def has_ended(process: subprocess.Popen[str]) -> bool:
    """Whether it ends within a moment."""
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def scraped(port: int) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            return [page.read().decode()]
    except (OSError, http.client.HTTPException):
        return []  # not yet, or not any more
