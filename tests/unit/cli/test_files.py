from __future__ import annotations

from pathlib import Path

import pytest

from thresher.cli.files import written_whole
from thresher.core.errors import BadInput


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with written_whole(path) as stream:
        stream.write(b"whole")
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), BrokenPipeError("x")])
def test_whatever_goes_wrong_the_file_of_before_stays_and_nothing_else_is_left(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(type(error)), written_whole(path) as stream:  # noqa: PT012 # half written, then broken off
        stream.write(b"half")
        raise error
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_places_where_no_file_can_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"), written_whole(tmp_path):
        pytest.fail("it opened a folder")
    with pytest.raises(BadInput, match="no/such does not exist"), written_whole(tmp_path / "no/such/out"):
        pytest.fail("it opened a file in no folder")


def test_errors_of_writing_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(OSError, match="No space") as failure, written_whole(path):
        raise OSError(28, "No space left on device")
    assert failure.value.filename == str(path)


def test_what_cannot_be_replaced_is_written_to_directly() -> None:
    if not Path("/dev/null").exists():
        pytest.skip("this system has no /dev/null")
    with written_whole(Path("/dev/null")) as stream:
        stream.write(b"x")
    assert not Path("/dev/null").is_file()
