"""Bad input: one clear sentence, the right exit code, and nothing half-written that looks whole."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import zipfile
from pathlib import Path

import pytest
from command import BUNDLED, GUARD, Finished, Thresher, end, interrupt, until_held
from disks import small_disk

from thresher.testing.model_server import RunningModelServer, running_model_server

GOOD = "<r><i><a>1</a><b>2</b></i><i><a>3</a><b>4</b></i></r>"
PAX = ("--path", "Pax")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.xml"
    file.write_text(GOOD, encoding="utf-8")
    return file


def refused(done: Finished, *parts: str, code: int = 2) -> None:
    """One sentence on stderr, with these parts, nothing on stdout, and this exit code."""
    assert done.code == code, done.err
    (line,) = done.err.splitlines()
    assert line.startswith("Error: ")
    assert not [part for part in parts if part not in line], line
    assert done.out == ""


def statuses(thresher: Thresher, **environment: str) -> list[str]:
    return [run["status"] for run in thresher("runs", "--json", **environment).json]


def by_model(server: RunningModelServer) -> dict[str, str]:
    return {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test-key", "LLM_MODEL": "test-model"}


def pax_document(folder: Path, count: int) -> Path:
    file = folder / "pax.xml"
    pax = "".join(f"<Pax><PaxID>P{number}</PaxID><Seat>{number}C</Seat></Pax>" for number in range(count))
    file.write_text(f"<List>{pax}</List>", encoding="utf-8")
    return file


# -- documents ----------------------------------------------------------------------------------------------

_LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
DOCUMENTS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty.xml": (b"", ("is empty",)),
    "blank.xml": (b" \n ", ("nothing but blanks",)),
    "truncated.xml": (b"<r>\n<a>1</a>\n<a>2", ("line 3, column 5", "ends before its elements are closed")),
    "prose.xml": (b"hello\n", ("line 1, column 1", "other than XML")),
    "page.xml": (b"<html><body><p>x<br></body></html>", ("line 1, column 23", "end tag")),
    "two.xml": (b"<r/>\n<r/>", ("line 2, column 1", "after the end of the root")),
    "internal.xml": (b'<!DOCTYPE r [\n<!ENTITY e "x">]><r>&e;</r>', ("line 2", "entity 'e'", "without them")),
    "external.xml": (b'<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><r>&e;</r>', ("entity 'e'",)),
    "parameter.xml": (b'<!DOCTYPE r [<!ENTITY % p SYSTEM "p.dtd"> %p;]><r/>', ("entity 'p'",)),
    "laughs.xml": (f'<!DOCTYPE r [<!ENTITY a0 "lol">{_LAUGHS}]><r>&a9;</r>'.encode(), ("entity 'a0'",)),
    "undeclared.xml": (b"<r>&nbsp;</r>", ("line 1, column 4", "entity")),
    "deep.xml": (b"<a>" * 300 + b"</a>" * 300, ("deeper than 256", "MAX_DEPTH")),
    "prefix.xml": (b"<r><x:a/></r>", ("line 1, column 4", "prefix")),
    "encoding.xml": (b'<?xml version="1.0" encoding="klingon"?><r/>', ("klingon", "UTF-8")),
    "bytes.xml": (b"<r>\n<a>\xff\xfe</a></r>", ("line 2",)),
    "cut.xml.gz": (gzip.compress(GOOD.encode() * 50)[:-20], ("cut off", "again")),
    "not.xml.gz": (b"\x1f\x8b" + b"\0" * 40, ("gzip",)),
    "table.pdf": (b"%PDF-1.7 ...", ("a PDF",)),
}


def test_every_unusable_document_is_refused_in_one_sentence_and_stores_nothing(
    thresher: Thresher, tmp_path: Path, good: Path
) -> None:
    for name, (content, _) in DOCUMENTS.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.xml").mkdir()
    os.mkfifo(tmp_path / "pipe.xml")
    with zipfile.ZipFile(tmp_path / "packed.xml", "w") as archive:
        archive.writestr("a.xml", GOOD)
    others = {"missing.xml": "does not exist", "folder.xml": "is a folder", "pipe.xml": "no regular file"}
    expected = {name: parts for name, (_, parts) in DOCUMENTS.items()} | {
        **{name: (part,) for name, part in others.items()},
        "packed.xml": ("zip archive", "unpack it"),
    }
    done = thresher("discover", *expected, good.name, "--quiet", "--json")
    assert done.code == 2
    lines = done.err.splitlines()
    assert len(lines) == len(expected), done.err
    for line, (name, parts) in zip(lines, expected.items(), strict=True):
        assert line.startswith("Error: ")
        assert not [part for part in (name, *parts) if part not in line], line
    results = [json.loads(line) for line in done.out.splitlines()]
    assert [result["status"] for result in results] == ["failed"] * len(expected) + ["succeeded"]
    assert statuses(thresher) == ["succeeded"], "the good document alone is a run"


def test_a_document_over_the_bound_is_refused_before_it_is_read(thresher: Thresher, good: Path) -> None:
    refused(thresher("discover", good, MAX_DOCUMENT_BYTES="10"), "good.xml", "10 bytes", "MAX_DOCUMENT_BYTES")


def test_an_unreadable_document_is_refused(thresher: Thresher, good: Path) -> None:
    good.chmod(0)
    if os.access(good, os.R_OK):
        pytest.skip("this user reads every file whatever its permissions")
    refused(thresher("discover", good), "good.xml", "Permission denied")


@pytest.mark.parametrize(
    "name", ["two words.xml", "żółć-日本.xml", "-dash.xml", "[red]x[blink].xml", "a\nb\x1b[31m.xml"]
)
def test_odd_names_of_files_are_names_like_any_other(thresher: Thresher, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(GOOD, encoding="utf-8")
    done = thresher("discover", file, "--json")
    assert done.code == 0, done.err
    assert done.json["file"] == name
    assert "\x1b" not in done.err
    assert len(done.err.splitlines()) == 2, "a line when it starts, a line when it ends"


def test_a_name_that_is_no_text_is_shown_as_escapes(thresher: Thresher, tmp_path: Path) -> None:
    name = b"caf\xe9.xml"
    (tmp_path / os.fsdecode(name)).write_text(GOOD, encoding="utf-8")
    done = thresher("discover", os.fsdecode(name), "--json")
    assert done.code == 0, done.err
    missing = thresher("discover", os.fsdecode(b"n\xe9.xml"), "--quiet")
    refused(missing, "does not exist")


def big_document(folder: Path, tail: str) -> Path:
    file = folder / "big.xml"
    with file.open("w", encoding="utf-8") as stream:
        stream.write("<List>\n")
        for number in range(1100):
            stream.write(f"<Pax><PaxID>P{number}</PaxID><!--{'.' * 16_000}--></Pax>\n")
        stream.write(tail)
    assert file.stat().st_size > 16 * 1024 * 1024
    return file


def test_a_document_broken_behind_16_mib_is_a_failed_run_whose_facts_are_marked(
    thresher: Thresher, tmp_path: Path
) -> None:
    document = big_document(tmp_path, "<Pax></List>")
    done = thresher("discover", document, *PAX, "--json", "--quiet", "--workers", "2")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert "big.xml is not well-formed XML at line 1102" in line
    result = done.json
    assert result["status"] == "failed"
    assert result["errors"][0]["class"] == "MalformedDocument"
    facts = thresher("facts", result["run_id"])
    assert facts.rows
    assert f"run {result['run_id']} is failed: these are the facts so far" in facts.err
    again = thresher("resume", result["run_id"], "--quiet", "--json")
    assert again.code == 2, "the same document is as broken as before"


def test_a_gzip_bomb_ends_early_and_is_no_success(thresher: Thresher, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.xml.gz"
    with gzip.open(bomb, "wb") as stream:
        stream.write(b"<r>")
        for _ in range(100):
            stream.write(b" " * 1_000_000)
        stream.write(b"</r>")
    done = thresher("discover", bomb, "--quiet", "--json")
    assert done.code == 2
    assert "200 times its packed size" in done.err
    assert "succeeded" not in statuses(thresher)


# -- paths, options, settings -------------------------------------------------------------------------------


def test_a_path_that_matches_nothing_names_paths_that_do(thresher: Thresher, good: Path) -> None:
    done = thresher("discover", good, "--path", "DataLists/Pax", "--quiet", "--json")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert "good.xml matches DataLists/Pax" in line
    assert "/r/i" in line
    assert "thresher inspect" in line
    assert statuses(thresher) == ["failed"]


def test_what_is_typed_wrongly_is_said_in_one_sentence(thresher: Thresher, good: Path) -> None:
    """One of a class; tests/unit/cli/test_command_line.py has the others."""
    refused(thresher("discover", good, "--workers", "0"), "--workers", "1", "thresher discover --help")


def test_an_unusable_setting_is_named_and_no_secret_is_shown(thresher: Thresher, good: Path) -> None:
    done = thresher("discover", good, DATABASE_URL="postgresql://u:secretpw@127.0.0.1:9/d")
    refused(done, "127.0.0.1:9", "DATABASE_URL")
    assert "secretpw" not in done.err


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"MAX_RETRIES=many\n", ("MAX_RETRIES", ".env")),
        (b'LOG_LEVEL=INFO\nOPENAI_API_KEY="sk-secret\n', (".env, line 2",)),
        (b"\xff\xfe", (".env", "UTF-8")),
    ],
)
def test_an_unusable_env_file_is_refused_with_its_line(
    thresher: Thresher, good: Path, content: bytes, parts: tuple[str, ...]
) -> None:
    (good.parent / ".env").write_bytes(content)
    done = thresher("discover", good)
    refused(done, *parts)
    assert "sk-secret" not in done.err


def test_the_example_of_all_settings_can_be_used_as_it_is(thresher: Thresher, good: Path) -> None:
    shutil.copy(BUNDLED.parents[1] / ".env.example", good.parent / ".env")
    assert thresher("discover", good, "--json").json["status"] == "succeeded"


def test_an_unusable_configuration_is_refused_before_a_run_exists(thresher: Thresher, good: Path) -> None:
    config = good.with_name("nodes.yaml")
    config.write_text("nodes:\n  - path: r/i\n    schema: {type: objekt}\n", encoding="utf-8")
    refused(thresher("discover", good, "--config", config), "nodes.yaml", "line 3", "schema", "objekt")
    assert statuses(thresher) == []


# -- the model ----------------------------------------------------------------------------------------------


def test_an_unreachable_or_hanging_server_fails_before_a_run_exists(thresher: Thresher, good: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as accepts_and_never_answers:
        port = accepts_and_never_answers.getsockname()[1]
        hanging = {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "REQUEST_TIMEOUT_SECONDS": "0.5"}
        refused(thresher("discover", good, **hanging), f"127.0.0.1:{port}", "within 0.5 s", code=1)
    unreachable = {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
    refused(thresher("discover", good, **unreachable), f"127.0.0.1:{port}", "base URL", code=1)
    assert statuses(thresher) == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [({"hang": 1.0}, "within 5 s"), ({"html": 1.0}, "HTML, not JSON"), ({"drop": 1.0}, "without an answer")],
)
def test_a_server_that_gives_no_answers_fails_the_run_and_says_why(
    thresher: Thresher, good: Path, flags: dict[str, float], reason: str
) -> None:
    quick = {"MAX_RETRIES": "1", "RETRY_BASE_SECONDS": "0.01"}
    if "hang" in flags:
        quick["REQUEST_TIMEOUT_SECONDS"] = "5"  # as for every request, also for the look at the server before
    with running_model_server(**flags) as server:
        done = thresher("discover", good, "--mode", "parallel", "--quiet", "--json", **quick, **by_model(server))
    assert done.code == 1
    assert (done.json["status"], done.json["nodes_failed"], done.json["node_facts_extracted"]) == ("failed", 2, 0)
    (line,) = done.err.splitlines()
    assert line.startswith("Error: 2 of 2 nodes failed")
    assert reason in line
    assert f"thresher retry {done.json['run_id']}" in line


def test_a_wrong_key_is_said_once_and_no_key_is_shown(thresher: Thresher, tmp_path: Path) -> None:
    with running_model_server(api_key="right") as server:
        done = thresher("discover", pax_document(tmp_path, 30), *PAX, "--quiet", "--json", **by_model(server))
        requests = server.stats()["requests"]
    assert done.code == 1
    assert requests <= 10
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert "refuses the key (401)" in lines[0]
    assert "test-key" not in done.err + done.out


# -- disks and databases ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["--sequential", "--workers=10"])
def test_a_full_disk_under_the_database_fails_the_run_in_one_sentence(
    thresher: Thresher, tmp_path: Path, mode: str
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        url = f"sqlite:///{disk}/t.db"
        done = thresher("discover", BUNDLED, "--quiet", "--json", mode, DATABASE_URL=url)
        assert done.code == 1
        assert done.err == "Error: The database cannot be written: the disk is full; make room and try again.\n"
        assert '"succeeded"' not in done.out
        assert "succeeded" not in statuses(thresher, DATABASE_URL=url)


def test_a_full_disk_under_an_output_file_leaves_no_file(thresher: Thresher, tmp_path: Path) -> None:
    run = thresher("discover", BUNDLED, "--quiet", "--json").json["run_id"]
    with small_disk(tmp_path / "disk") as disk:
        (disk / "filler").write_bytes(b"x" * 900_000)
        for command in (("facts", run), ("sample", "--size", "2MB")):
            done = thresher(*command, "--output", disk / "out")
            refused(done, str(disk / "out"), "No space left", "Make room", code=1)
            assert [file.name for file in disk.iterdir()] == ["filler"]


def test_an_output_file_of_before_survives_a_failed_export(thresher: Thresher, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / "out").write_text("of before")
        assert thresher("sample", "--size", "2MB", "--output", disk / "out").code == 1
        assert (disk / "out").read_text() == "of before"


def test_a_full_standard_output_is_a_failure(thresher: Thresher, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    assert tmp_path.is_dir()
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            thresher._command("sample"), cwd=thresher.folder, stdout=full, stderr=subprocess.PIPE, text=True
        )
        _, err = process.communicate(timeout=GUARD)
    assert process.returncode == 1
    assert err.startswith("Error: The output")
    assert len(err.splitlines()) == 1


def test_a_read_only_disk_is_refused(thresher: Thresher, tmp_path: Path, good: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        assert thresher("db", "upgrade", "--quiet", DATABASE_URL=f"sqlite:///{disk}/old.db").code == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for name in ("old.db", "new.db"):
            done = thresher("discover", good, DATABASE_URL=f"sqlite:///{disk}/{name}")
            refused(done, name, "cannot be written", "rights")
        refused(thresher("sample", "--output", disk / "s.xml"), "s.xml", "Read-only file system", "--output")


def test_a_database_of_a_newer_version_is_left_alone(thresher: Thresher, good: Path) -> None:
    assert thresher("db", "upgrade", "--quiet").code == 0
    with sqlite3.connect(thresher.folder / "thresher.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for command in (("discover", good), ("runs",), ("db", "upgrade"), ("db", "check")):
        refused(thresher(*command), "newer version (9999)", "upgrade Thresher")


def test_a_damaged_database_is_refused(thresher: Thresher, good: Path) -> None:
    assert thresher("discover", good, "--quiet").code == 0
    database = thresher.folder / "thresher.db"
    content = database.read_bytes()
    database.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    refused(thresher("discover", good), "thresher.db", "damaged", "DATABASE_URL")


# -- runs ---------------------------------------------------------------------------------------------------


def test_runs_that_cannot_be_meant_are_refused(thresher: Thresher, good: Path) -> None:
    first = thresher("discover", good, "--quiet", "--json").json["run_id"]
    second = thresher("discover", good, "--quiet", "--json").json["run_id"]
    for command in ("show", "facts", "resume", "retry"):
        refused(thresher(command, "zzz"), "'zzz'", "thresher runs")
    refused(thresher("show", "r"), first, second, "more than one")
    refused(thresher("resume", first), first, "succeeded", f"thresher facts {first}")
    refused(thresher("retry", first), first, "no failed node")


def test_a_document_that_changed_or_vanished_cannot_be_resumed(thresher: Thresher, tmp_path: Path) -> None:
    document = big_document(tmp_path, "</List>")
    with running_model_server(latency=0.2) as server:
        process = thresher.start("discover", document, *PAX, "--quiet", "--workers", "2", **by_model(server))
        while server.stats()["requests"] < 3:
            assert process.poll() is None, process.communicate()
        out, err = end(process, signal.SIGTERM)
        assert process.returncode == 130, err
        assert "paused" in out
        (run,) = thresher("runs", "--json").json
        assert run["status"] == "paused"
        paid = server.stats()["requests"]
        document.write_text("<List><Pax/></List>", encoding="utf-8")
        changed = thresher("resume", run["run_id"], "--quiet", "--json", "--workers", "2", **by_model(server))
        assert server.stats()["requests"] <= paid + 4, "found out at once, not after all that was planned"
        document.unlink()
        vanished = thresher("resume", run["run_id"], "--quiet", "--json", **by_model(server))
    assert changed.code == 2
    assert "not the document that run" in changed.err
    assert vanished.code == 2
    assert "does not exist" in vanished.err


def test_a_reader_that_goes_away_is_no_failure(thresher: Thresher) -> None:
    run = thresher("discover", BUNDLED, "--quiet", "--json").json["run_id"]
    with thresher.start("facts", run) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, "")


def test_two_processes_may_begin_one_new_database_at_once(thresher: Thresher, good: Path) -> None:
    processes = [thresher.start("discover", good, "--quiet", "--json") for _ in range(2)]
    finished = [process.communicate(timeout=GUARD) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], finished
    assert [err for _, err in finished] == ["", ""]
    assert statuses(thresher) == ["succeeded"] * 2


def test_two_processes_may_resume_one_run_at_once_and_pay_once(thresher_on: Thresher, tmp_path: Path) -> None:
    with running_model_server(latency=0.1) as server:
        server.hold(after=7)
        arguments = ("discover", pax_document(tmp_path, 60), *PAX, "--quiet", "--workers", "4")
        process = thresher_on.start(*arguments, **by_model(server))
        until_held(server, process)
        interrupt(process)
        server.release()
        process.communicate(timeout=GUARD)
        (run,) = thresher_on("runs", "--json").json
        resumed = [
            thresher_on.start("resume", run["run_id"], "--quiet", "--json", "--workers", "4", **by_model(server))
            for _ in range(2)
        ]
        finished = [process.communicate(timeout=GUARD) for process in resumed]
        paid = server.stats()["requests"]
    codes = sorted(process.returncode for process in resumed)
    assert codes in ([0, 0], [0, 2]), finished  # the later one may find nothing left to do, and says so
    assert paid == 60
    paths = [row["section_path"] for row in thresher_on("facts", run["run_id"]).rows]
    assert len(paths) == len(set(paths)) == 60


def test_ctrl_c_twice_leaves_at_once_and_the_run_can_be_resumed(thresher: Thresher, tmp_path: Path) -> None:
    document = pax_document(tmp_path, 6)
    with running_model_server() as slow:
        slow.hold()
        process = thresher.start("discover", document, *PAX, "--json", **by_model(slow))
        assert process.stderr is not None
        until_held(slow, process, 6)
        process.send_signal(signal.SIGINT)
        while "Press Ctrl-C again" not in (line := process.stderr.readline()):
            assert line, "it announces what a second Ctrl-C does"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=GUARD)  # the answers never come
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""
    (run,) = thresher("runs", "--json").json
    assert run["status"] == "paused"
    with running_model_server() as server:
        done = thresher("resume", run["run_id"], "--json", **by_model(server))
    assert (done.code, done.json["subtrees_processed"]) == (0, 6)
