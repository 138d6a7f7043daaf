"""Uploads of all kinds: at once, cut off, too large for the disk, made of noise; and documents that grow old."""

from __future__ import annotations

import gzip
import itertools
import resource
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from command import Thresher
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from server import RunningServer, running_server

SMALL = b"<PaxList><Pax><Id>P1</Id></Pax></PaxList>"
BOUNDARY = b"x"
MIB = 1024 * 1024


@pytest.fixture
def server(thresher: Thresher) -> Iterator[RunningServer]:
    with running_server(thresher) as server:
        yield server


def kept(thresher: Thresher) -> list[Path]:
    return [path for path in (thresher.folder / "thresher-data" / "sources").rglob("*") if path.is_file()]


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_equal_documents_that_come_at_once_are_kept_once(server: RunningServer, thresher: Thresher) -> None:
    document = b"<a>" + b"<b>text</b>" * 20_000 + b"</a>"
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda number: server.upload(document, f"{number}.xml", limit="1"), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["source_id"] for answer in answers}) == 1
    runs = [server.until_ended(answer.json()["run_id"]) for answer in answers]
    assert {run["status"] for run in runs} == {"succeeded"}
    (path,) = kept(thresher)
    assert path.read_bytes() == document


def test_an_upload_that_is_cut_off_leaves_nothing(server: RunningServer, thresher: Thresher) -> None:
    place = urlsplit(server.address)
    head = (
        f"POST /api/v1/runs/ HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 90000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.xml"\r\n\r\n<a>'
    )
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(head.encode() + b"x" * 3 * MIB)
        until(lambda: kept(thresher) != [])
    until(lambda: kept(thresher) == [])
    assert server.client.get("/api/v1/runs/").json()["data"] == []


def test_a_full_disk_is_told_and_leaves_nothing(server: RunningServer, thresher: Thresher) -> None:
    pid = server.process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB))
    answer = server.upload(b"<a>" + b"x" * 8 * MIB + b"</a>")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert "cannot be stored" in answer.json()["detail"]
    assert kept(thresher) == []
    assert server.upload(SMALL).status_code == 202


def test_a_document_that_nobody_has_used_for_long_is_deleted(thresher: Thresher) -> None:
    with running_server(thresher) as server:
        old = server.upload(b"<a>1</a>", query={"wait": 30}).json()
        new = server.upload(b"<a>2</a>", query={"wait": 30}).json()
    with closing(sqlite3.connect(thresher.folder / "thresher.db")) as database, database:
        database.execute("UPDATE sources SET used_at = datetime('now', '-40 days') WHERE id = ?", (old["source_id"],))
    with running_server(thresher, SOURCE_RETENTION_DAYS="41") as server:
        assert server.run(old["run_id"])["source_id"] == old["source_id"]
        assert len(kept(thresher)) == 2
    with running_server(thresher, SOURCE_RETENTION_DAYS="39") as server:
        until(lambda: len(kept(thresher)) == 1)
        run = server.run(old["run_id"])
        assert (run["source_id"], run["node_facts_extracted"]) == (None, old["node_facts_extracted"])
        assert server.run(new["run_id"])["source_id"] == new["source_id"]


PARTS = st.builds(
    lambda name, filename, content: (
        b"--"
        + BOUNDARY
        + b'\r\nContent-Disposition: form-data; name="'
        + name
        + b'"'
        + (b'; filename="' + filename + b'"' if filename is not None else b"")
        + b"\r\n\r\n"
        + content
        + b"\r\n"
    ),
    st.one_of(st.sampled_from([b"file", b"options", b"limit", b"paths", b"source", b"budget"]), st.binary(max_size=20)),
    st.one_of(st.none(), st.just(b"a.xml"), st.binary(max_size=20)),
    st.one_of(
        st.just(SMALL),
        st.just(gzip.compress(SMALL)),
        st.just(gzip.compress(SMALL)[:-9]),
        st.sampled_from(
            [b"{}", b"1", b"//", b'{"limit": 1e400}', b"\xef\xbb\xbf<a/>", b"\xff\xfe<\x00", b"<!DOCTYPE a"]
        ),
        st.text(max_size=50).map(lambda text: text.encode("utf-16")),
        st.binary(max_size=200),
    ),
)
PART_WITHOUT_A_NAME = b'--x\r\nContent-Disposition: form-data; name=""\r\n\r\n1\r\n--x--\r\n'
FORMS = st.one_of(
    st.binary(max_size=400),
    st.lists(PARTS, max_size=6).map(lambda parts: b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"),
    st.lists(PARTS, max_size=3).map(b"".join),
)


def test_no_form_and_no_document_brings_the_server_down(server: RunningServer, thresher: Thresher) -> None:
    log = itertools.count()

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        address=st.sampled_from(["/api/v1/runs/", "/api/v1/documents/analyse", "/api/v1/batch"]),
        form=FORMS,
        kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data", "text/xml"]),
    )
    @example("/api/v1/documents/analyse", PART_WITHOUT_A_NAME, "multipart/form-data; boundary=x")
    @example("/api/v1/batch", PART_WITHOUT_A_NAME, "multipart/form-data; boundary=x")
    def sends(address: str, form: bytes, kind: str) -> None:
        next(log)
        answer = server.client.post(address, content=form, headers={"Content-Type": kind})
        assert answer.status_code in {200, 202, 404, 413, 415, 422}, answer.text

    sends()
    runs = server.client.get("/api/v1/runs/", params={"limit": 500}).json()["data"]
    for run in runs:
        assert server.until_ended(run["run_id"])["status"] in {"succeeded", "failed"}
    assert next(log) > 100
    assert not [path for path in kept(thresher) if path.parent.name == "incoming"]


def test_facts_are_streamed_in_constant_memory(thresher: Thresher) -> None:
    count = 20_000
    document = b"<PaxList>" + b"".join(b"<Pax><Id>P%d</Id></Pax>" % number for number in range(count)) + b"</PaxList>"
    with running_server(thresher, PROCESSING_MODE="parallel") as server:
        run_id = server.upload(document, paths="/PaxList/Pax").json()["run_id"]
        server.until(run_id, lambda run: run["finished_at"] is not None, timeout=110)
        process = psutil.Process(server.process.pid)
        server.client.get(f"/api/v1/runs/{run_id}/facts", params={"format": "csv"})  # what is made once is made
        before = process.memory_info().rss
        most, lines = before, 0
        for format_ in ("jsonl", "csv", "json"):
            with server.client.stream("GET", f"/api/v1/runs/{run_id}/facts", params={"format": format_}) as answer:
                for chunk in answer.iter_bytes(64 * 1024):
                    lines += chunk.count(b"\n") if format_ == "jsonl" else 0
                    most = max(most, process.memory_info().rss)
        assert lines == count
        assert most - before < 16 * MIB, f"{(most - before) / MIB:.1f} MiB"
