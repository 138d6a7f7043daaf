from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import structlog

from thresher.core.correlation import Correlation, carried, correlated, current
from thresher.core.errors import BadConfiguration, TransientLLMError
from thresher.core.logging import DEBUG, LogOptions, configure_logging, get_logger, is_logged

FORMATS = pytest.mark.parametrize("log_format", ["json", "console"])


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    configure_logging()  # closes the file
    structlog.reset_defaults()


def text_of(file: Path) -> str:
    return file.read_text("utf-8")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text_of(file).splitlines()]


def to_file(tmp_path: Path, log_format: str = "json", **more: Any) -> Path:
    file = tmp_path / "thresher.log"
    configure_logging(LogOptions("debug", log_format, file, **more))
    return file


def test_a_line_of_json_says_when_where_how_bad_and_what(tmp_path: Path) -> None:
    file = to_file(tmp_path)
    get_logger("thresher.engine.x").info("item retried", delay_s=1.5)
    [line] = lines(file)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "item retried", "level": "info", "logger": "thresher.engine.x", "delay_s": 1.5}


def test_every_line_below_an_attempt_says_which_and_a_beginning_of_its_id_filters_by_any_level(tmp_path: Path) -> None:
    file = to_file(tmp_path)
    log = get_logger("x")
    for place in (
        Correlation("r1"),
        Correlation("r1", item=17, attempt=2),
        Correlation("r1", batch=3, item=18, attempt=1),
        Correlation("r2", item=17, attempt=1),
    ):
        with correlated(place):
            log.debug("request ended")
    log.info("metrics served")
    written = lines(file)
    ids = [line.get("correlation_id") for line in written]
    assert ids == ["r1", "r1/i17/a2", "r1/b3/i18/a1", "r2/i17/a1", None]
    assert sum(str(one).startswith("r1") for one in ids) == 3
    assert [line["item"] for line in written if line.get("run_id") == "r1" and "item" in line] == [17, 18]
    assert written[2]["batch"] == 3
    assert current() is None


def test_a_thread_is_told_where_its_work_belongs(tmp_path: Path) -> None:
    file = to_file(tmp_path)
    with correlated(Correlation("r1")):
        thread = Thread(target=carried(get_logger("x").info), args=("run planned",))
        thread.start()
        thread.join()
    assert lines(file)[0]["correlation_id"] == "r1"


@FORMATS
def test_what_is_secret_is_struck_out_wherever_and_however_it_stands(tmp_path: Path, log_format: str) -> None:
    secrets = ("sk-plain-1234", 'pass"wörd/\\x', "short")
    file = to_file(tmp_path, log_format, secrets=secrets)
    log = get_logger("x")
    log.info("key sk-plain-1234", nested={"a": ['pass"wörd/\\x']}, quoted="pass%22w%C3%B6rd%2F%5Cx")
    log.info("other", address="https://someone:unknown@example.org/x", list=["http://token@host"])
    written = text_of(file)
    for secret in ("sk-plain", "rd/", "%C3%B6", "unknown", "someone", "token"):
        assert secret not in written
    assert "example.org/x" in written
    assert written.count("***") == 5


@FORMATS
def test_a_traceback_says_where_but_not_with_which_values(tmp_path: Path, log_format: str) -> None:
    file = to_file(tmp_path, log_format)
    try:
        passenger = "Erika Mustermann"
        try:
            int(passenger)
        except ValueError as error:
            raise TransientLLMError(f"it said {passenger}").in_own_words("the server failed") from error
    except TransientLLMError:
        get_logger("x").exception("item failed with a defect")
    written = text_of(file)
    assert "Mustermann" not in written
    assert "ValueError" in written
    assert "TransientLLMError: the server failed" in written
    assert "test_logging.py" in written


def test_a_warning_of_a_library_comes_without_its_values(tmp_path: Path) -> None:
    file = to_file(tmp_path)
    logging.getLogger("some.library").warning("no good: %s", "Erika Mustermann")
    logging.getLogger("some.library").error(f"bad: {'Erika Mustermann'}")  # noqa: G004 # as some do
    logging.getLogger("some.library").info("prompt %s", "Erika Mustermann")
    assert [(line["level"], line["message"]) for line in lines(file)] == [
        ("warning", "no good: %s"),
        ("error", "a message of some.library"),
    ]


def test_nothing_is_written_below_the_level(tmp_path: Path) -> None:
    file = tmp_path / "log"
    configure_logging(LogOptions("info", "json", file))
    get_logger("x").debug("item started")
    assert not is_logged(DEBUG)
    assert text_of(file) == ""


def test_a_file_is_added_to_and_one_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for _ in range(2):
        get_logger("x")
        file = to_file(tmp_path)
        get_logger("x").info("run started")
    assert len(lines(file)) == 2
    with pytest.raises(BadConfiguration, match=r"LOG_FILE .*no/such/folder.* cannot be written"):
        configure_logging(LogOptions(file=tmp_path / "no/such/folder"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_costs_the_line_and_not_the_work() -> None:
    configure_logging(LogOptions(file=Path("/dev/full")))
    get_logger("x").warning("circuit opened")
