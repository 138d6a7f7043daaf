from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from thresher.engine.ownership import is_dead, this_process

OWNER = "from thresher.engine.ownership import this_process; print(this_process(), flush=True); input()"


def test_every_session_of_a_process_has_a_name_of_its_own() -> None:
    assert this_process() != this_process()
    assert not is_dead(this_process())


def test_a_process_that_has_ended_is_dead_and_a_living_one_is_not() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc to look into")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert not is_dead(owner)
        process.kill()
        process.wait()
    assert is_dead(owner)


def test_a_killed_process_that_nobody_has_waited_for_is_dead() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc to look into")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        process.kill()
        process.stdout.read()  # its end: it is a zombie, or about to be
        while not is_dead(owner):
            assert process.returncode is None


def test_a_number_that_another_process_got_since_is_not_the_owner() -> None:
    machine, pid, started, mark = this_process().split("|")
    assert is_dead("|".join((machine, pid, str(int(started or 0) + 1), mark)))


@pytest.mark.parametrize("owner", ["", "x", "a|b|c", "other-host/boot/1|1|1|ff", "a|b|c|d"])
def test_what_cannot_be_known_is_not_taken_for_dead(owner: str) -> None:
    assert not is_dead(owner)


def test_a_name_of_this_machine_without_a_number_is_not_taken_for_dead() -> None:
    machine = this_process().split("|")[0]
    assert not is_dead(f"{machine}|no-number|1|ff")
