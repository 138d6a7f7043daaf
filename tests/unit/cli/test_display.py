"""Progress as people see it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from thresher.cli.display import LINE_INTERVAL, ProgressDisplay, duration
from thresher.engine.progress import ItemFinished, ItemsPlanned, RunStarted, Snapshot
from thresher.engine.work import Counts, ItemStatus, Mode, Run, RunStatus

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RUN = Run(
    "r1", "discovery", "default", RunStatus.RUNNING, Mode.PARALLEL, "because", None, None, {}, {}, {}, None, None, 0,
    planning_complete=False, elapsed_seconds=0.0, created_at=NOW, started_at=None, finished_at=None,
)  # fmt: skip


def snapshot(done: int, total: int, *, complete: bool = True, errors: dict[str, int] | None = None) -> Snapshot:
    counts = Counts(pending=total - done, succeeded=done)
    return Snapshot(counts, complete, errors=errors or {}, rate=2.0, eta_seconds=30.0)


def finished(state: Snapshot) -> ItemFinished:
    return ItemFinished("r1", "k", ItemStatus.SUCCEEDED, 1.0, None, None, {"facts": 1}, state)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the display sees, in seconds; the first entry."""
    now = [100.0]
    monkeypatch.setattr("thresher.cli.display.time.monotonic", lambda: now[0])
    return now


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": str(columns), "LINES": "20", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)


def test_a_start_says_mode_workers_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay("order.xml") as display:
        display(RunStarted(RUN, Mode.PARALLEL, 10, resumed=False, snapshot=snapshot(0, 0)))
        display(RunStarted(RUN, Mode.SEQUENTIAL, 1, resumed=True, snapshot=snapshot(0, 0)))
    assert capsys.readouterr().err.splitlines() == [
        "Starting run r1 on order.xml: parallel, 10 nodes at once (because)",
        "Resuming run r1 on order.xml: sequential, one node after the other (because)",
    ]


def test_without_a_terminal_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with ProgressDisplay("order.xml") as display:
        for done in (1, 2, 3):
            clock[0] += LINE_INTERVAL / 2 + 0.1
            display(finished(snapshot(done, 40, errors={"RateLimited": 3})))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "Processing node 2 of 40, 2.0 nodes/s, about 30 s left, 2 facts, failed tries: 3 RateLimited"


def test_while_planning_the_total_is_open_and_no_end_is_foretold(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with ProgressDisplay("order.xml") as display:
        clock[0] += LINE_INTERVAL
        display(finished(snapshot(5, 64, complete=False)))
    line = capsys.readouterr().err
    assert "node 5 of 64+" in line
    assert "left" not in line


def test_on_a_narrow_terminal_bar_and_details_have_a_line_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal(monkeypatch, 80)
    with ProgressDisplay("order.xml") as display:
        clock[0] += 1
        display(finished(snapshot(150, 200, errors={"TransientLLMError": 9, "RateLimited": 120})))
        display._bar.refresh()  # type: ignore[union-attr]
        shown = capsys.readouterr().err
    assert "Processing node 150 of 200" in shown
    assert " 75%" in shown
    assert "2.0 nodes/s, about 30 s left, 1 facts, failed tries: 9 TransientLLMError" in shown


def test_the_total_is_on_the_bar_before_the_first_node_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(monkeypatch, 80)
    with ProgressDisplay("order.xml") as display:
        display(ItemsPlanned("r1", snapshot(0, 200)))
        display._bar.refresh()  # type: ignore[union-attr]
        assert "Processing node 0 of 200" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (0.04, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (10, "10 s"), (42.4, "42 s"),
        (59.4, "59 s"), (59.6, "1:00 min"), (185, "3:05 min"), (3599, "59:59 min"), (3599.6, "1:00 h"),
        (7620, "2:07 h"), (360_000, "100:00 h"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
