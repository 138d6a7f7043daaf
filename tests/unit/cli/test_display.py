from __future__ import annotations

import pytest

from thresher.cli.display import duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"), (0.04, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (10, "10 s"), (42.4, "42 s"),
        (59.4, "59 s"), (59.6, "1:00 min"), (185, "3:05 min"), (3599, "59:59 min"), (3599.6, "1:00 h"),
        (7620, "2:07 h"), (360_000, "100:00 h"),
    ],
)  # fmt: skip
def test_seconds_are_shown_for_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
