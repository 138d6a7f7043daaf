"""What a server does not put up with: pages of others, too much, too slow; and how it tells its own defects."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from command import Thresher
from server import RunningServer, running_server

SMALL = b"<PaxList><Pax><Id>P1</Id></Pax></PaxList>"
KIB = 1024


@pytest.fixture
def server(thresher: Thresher) -> Iterator[RunningServer]:
    with running_server(thresher) as server:
        yield server


def host_of(server: RunningServer) -> str:
    return urlsplit(server.address).netloc


def upload_of(server: RunningServer, *headers: str) -> bytes:
    """The head of an upload."""
    kind = "Content-Type: multipart/form-data; boundary=x"
    lines = ("POST /api/v1/runs/ HTTP/1.1", f"Host: {host_of(server)}", kind, *headers)
    return "\r\n".join((*lines, "", "")).encode()


def connected(server: RunningServer) -> socket.socket:
    place = urlsplit(server.address)
    return socket.create_connection((place.hostname, place.port), timeout=60)


def asked(server: RunningServer, headers: Mapping[str, str], method: str = "GET") -> tuple[int, str]:
    """Status and type of the answer to a request for the list of runs."""
    answer = server.client.request(method, "/api/v1/runs/", headers=dict(headers))
    kind = answer.json().get("type", "") if "problem" in answer.headers["content-type"] else ""
    return answer.status_code, kind


def upgraded(server: RunningServer, headers: Mapping[str, str]) -> tuple[int, Any]:
    """Status and body of the answer to the beginning of a WebSocket."""
    key = base64.b64encode(bytes(16)).decode()
    own = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    with closing(http.client.HTTPConnection(host_of(server), timeout=30)) as connection:
        connection.request("GET", "/nothing", headers={**own, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()


def read_to_end(connection: socket.socket) -> bytes:
    """All that is answered; a reset is an error."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_a_name_that_was_pointed_at_this_machine_is_refused(server: RunningServer) -> None:
    port = urlsplit(server.address).port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
    ):
        assert asked(server, {"Host": host}) == (403, "/problems/foreign-host"), host
    for host in (f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", "localhost.", "127.1.2.3", f"[::1]:{port}"):
        assert asked(server, {"Host": host}) == (200, ""), host


def test_a_name_that_is_set_is_the_server_s(thresher: Thresher) -> None:
    with running_server(thresher, SERVE_ALLOWED_HOSTS="Facts.example, other.example:81") as server:
        assert asked(server, {"Host": "facts.example"})[0] == 200
        assert asked(server, {"Host": "facts.example:8080"})[0] == 200
        assert asked(server, {"Host": "other.example:81"})[0] == 200
        assert asked(server, {"Host": "other.example"})[0] == 403
        behind_proxy = {"Origin": "https://facts.example"}  # which passes its own name on, not the browser's
        assert asked(server, behind_proxy, "POST") == (415, "/problems/unsupported-media-type")


def test_a_page_of_another_site_changes_nothing(server: RunningServer) -> None:
    host = host_of(server)
    refused = (403, "/problems/foreign-origin")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},  # another server of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    ):
        assert asked(server, headers, "POST") == refused, headers
        assert asked(server, headers)[0] == 200, "reading is no harm: the page does not see the answer"
    for headers in ({}, {"Origin": f"http://{host}"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert asked(server, headers, "POST") == (415, "/problems/unsupported-media-type"), headers
    form = {"files": {"file": ("a.xml", SMALL)}, "headers": {"Origin": "https://evil.example"}}
    assert server.client.post("/api/v1/runs/", **form).status_code == 403
    assert server.client.get("/api/v1/runs/").json()["data"] == []


def test_a_page_of_another_site_opens_no_websocket(server: RunningServer) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        status, body = upgraded(server, headers)
        assert (status, json.loads(body)["status"]) == (403, 403), headers
    status, body = upgraded(server, {"Origin": server.address})
    assert b"foreign" not in body


def test_a_body_that_is_too_large_is_refused(thresher: Thresher) -> None:
    with running_server(thresher, MAX_BODY_BYTES="4096") as server:
        run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
        address = f"/api/v1/runs/{run_id}/retry"
        large = json.dumps({"error_classes": ["x" * 5000]}).encode()
        json_type = {"Content-Type": "application/json"}
        announced = server.client.post(address, content=large, headers=json_type)
        in_chunks = server.client.post(address, content=iter([large[:3000], large[3000:]]), headers=json_type)
        as_form = server.client.post(address, files={"file": ("a.xml", b"x" * 5000)})
        for answer in (announced, in_chunks, as_form):
            assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
            assert "4,096" in answer.json()["detail"]
        fields = server.upload(SMALL, paths="x" * 5000)
        assert (fields.status_code, fields.json()["type"]) == (413, "/problems/too-large")
        assert server.upload(b"<a>" + b" " * 9000 + b"</a>").status_code == 202, "a document has a bound of its own"


@pytest.mark.parametrize("is_announced", [True, False])
def test_who_sends_too_much_sees_the_answer(thresher: Thresher, is_announced: bool) -> None:  # noqa: FBT001
    """Even who sends all of it before looking at the answer."""
    size = 20 * 1024 * KIB
    with running_server(thresher, MAX_UPLOAD_BYTES="100000") as server, connected(server) as connection:
        begin = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.xml"\r\n\r\n<a>'
        if is_announced:
            connection.sendall(upload_of(server, f"Content-Length: {size + len(begin)}") + begin)
            for _ in range(size // (64 * KIB)):
                connection.sendall(b"x" * 64 * KIB)
        else:
            connection.sendall(upload_of(server, "Transfer-Encoding: chunked"))
            for piece in (begin, *[b"x" * 64 * KIB] * (size // (64 * KIB))):
                connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"/problems/too-large" in answer


def test_who_waits_for_leave_to_send_is_refused_at_once(thresher: Thresher) -> None:
    with running_server(thresher, MAX_UPLOAD_BYTES="100000") as server, connected(server) as connection:
        connection.sendall(upload_of(server, "Content-Length: 900000000", "Expect: 100-continue"))
        connection.settimeout(5)  # seconds: what is not sent is not waited for
        assert read_to_end(connection).startswith(b"HTTP/1.1 413 ")


def test_heads_have_a_bound(server: RunningServer) -> None:
    answer = server.client.get("/health", headers={"X-Long": "x" * 40 * KIB})
    assert (answer.status_code, answer.json()["type"]) == (431, "/problems/head-too-large")
    assert server.client.get("/health", params={"long": "x" * 40 * KIB}).status_code == 431
    assert server.client.get("/health", headers={"X-Long": "x" * 20 * KIB}).status_code == 200
    with connected(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX-Long: " + b"x" * 200 * KIB)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_who_never_ends_a_head_is_sent_away(server: RunningServer) -> None:
    with connected(server) as silent, connected(server) as dawdler, connected(server) as second:
        begun = time.monotonic()
        dawdler.sendall(b"GET /health HTTP/1.1\r\n")
        second.sendall(f"GET /health HTTP/1.1\r\nHost: {host_of(server)}\r\n\r\n".encode())
        answer = second.recv(65536)
        while not answer.endswith(b"}"):  # head and body may come one after the other
            answer += second.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        second.sendall(b"GET /hea")
        assert [one.recv(1) for one in (silent, dawdler, second)] == [b"", b"", b""]
        assert time.monotonic() - begun < 40
    assert server.client.get("/health").status_code == 200


def test_who_never_ends_a_body_is_sent_away(server: RunningServer, thresher: Thresher) -> None:
    with connected(server) as dawdler:
        dawdler.sendall(upload_of(server, "Content-Length: 1000") + b"--x\r\n")
        answer = read_to_end(dawdler)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/too-slow" in answer
    kept = {path.name for path in (thresher.folder / "thresher-data").rglob("*") if path.is_file()}
    assert kept <= {"pages.key"}


def test_a_defect_is_told_once_and_can_be_found(thresher: Thresher) -> None:
    log = thresher.folder / "log.jsonl"
    with running_server(thresher, LOG_FORMAT="json", LOG_FILE=str(log)) as server:
        run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
        with closing(sqlite3.connect(thresher.folder / "thresher.db")) as database, database:
            database.execute("UPDATE runs SET details = '[]'")  # what no version of Thresher has written
        answer = server.client.get(f"/api/v1/runs/{run_id}")
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (500, "/problems/defect")
    errors = [line for line in map(json.loads, log.read_text("utf-8").splitlines()) if line["level"] == "error"]
    assert [line["correlation_id"] for line in errors] == [problem["correlation_id"]]
    assert "AttributeError" in str(errors[0])
