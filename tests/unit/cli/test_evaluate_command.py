"""How measures and differences are shown to people."""

from __future__ import annotations

import pytest

from thresher.cli.compare import _change
from thresher.cli.evaluate import reader_of, share
from thresher.workflows.discovery.comparison import State, ValueChange


@pytest.mark.parametrize(
    ("measure", "shown"),
    [(1.0, "1.000"), (0.9999, "0.999"), (0.7, "0.700"), (0.29, "0.290"), (0.0, "0.000"), (None, "\u2013")],
)
def test_a_measure_is_rounded_down_and_a_missing_one_is_a_dash(measure: float | None, shown: str) -> None:
    assert share(measure) == shown


def test_a_reader_is_named_once() -> None:
    assert reader_of("structural", "structural") == "structural"
    assert reader_of("openai", "gpt") == "openai gpt"
    assert reader_of(None, None) == "nobody yet"


@pytest.mark.parametrize(
    ("kind", "old", "new", "shown"),
    [
        ("field", State("1", grounded=True), State("2", grounded=True), "a: 1 → 2"),
        ("field", State("1", grounded=True), State("1", grounded=False), "a: 1 → 1 ✗"),
        ("field", None, State("2", grounded=True), "+a=2"),
        ("reference", State("1", grounded=True), None, "-a (reference)=1"),
    ],
)
def test_a_change_shows_both_sides_and_their_proofs(
    kind: str, old: State | None, new: State | None, shown: str
) -> None:
    assert _change(ValueChange(kind, "a", "p", old, new)).plain == shown
