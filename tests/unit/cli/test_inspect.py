"""The tree of a document's paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from thresher.cli.inspect import inspect
from thresher.core.config import Settings
from thresher.operations.formats import size


def test_what_will_be_read_is_shown_in_its_place_however_deep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "deep.xml"
    leaves = "".join(f"<leaf><name>n{number}</name><text>{'word ' * 20}</text></leaf>" for number in range(30))
    file.write_text(f"<r><a><b><c>{leaves}</c></b></a><other><x><y/></x></other></r>", encoding="utf-8")
    inspect(Settings(_env_file=None), file, 1, as_json=False)  # type: ignore[call-arg]
    out = capsys.readouterr().out
    names = [line.lstrip("│├└─ \xa0").split("  ")[0] for line in out.splitlines()]
    assert names[1:6] == ["r", "a", "b", "c", "● leaf x30"]
    assert "x" not in names
    assert f"`thresher discover {file}`" in out


@pytest.mark.parametrize(("count", "text"), [(812, "812 B"), (20_100, "20.1 KB"), (1_200_000_000, "1.2 GB")])
def test_sizes_are_powers_of_a_thousand(count: int, text: str) -> None:
    assert size(count) == text
