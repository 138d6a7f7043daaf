"""The reference names what a state of a run has."""

from __future__ import annotations

from dataclasses import fields

from pages import code, rows, section

from thresher.engine.feed import DURATIONS_KEPT, ERRORS_KEPT, SLOWEST_KEPT
from thresher.engine.work import Fallback
from thresher.operations.moments import BudgetState, Failure, Latency, Nodes, ResourceLoad, RunMoment, SlowNode

PROGRESS = section("docs/reference/api.md", "Progress")
CELLS = {code(cells[0])[0]: cells[1] for cells in rows(PROGRESS.partition("A state:")[2])}
PARTS = {
    "nodes": Nodes,
    "budget": BudgetState,
    "resource": ResourceLoad,
    "latency": Latency,
    "last_errors": Failure,
    "slowest": SlowNode,
    "fallbacks": Fallback,
}


def names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


def test_keys_of_a_state() -> None:
    assert list(CELLS) == names(RunMoment)
    for key, kind in PARTS.items():
        assert code(CELLS[key]) == names(kind), key


def test_how_many_are_kept() -> None:
    assert f"newest {ERRORS_KEPT}" in CELLS["last_errors"]
    assert f"longest {SLOWEST_KEPT}" in CELLS["slowest"]
    assert f"last {DURATIONS_KEPT}" in CELLS["latency"]
