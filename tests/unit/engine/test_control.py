from __future__ import annotations

import os
import signal
from threading import Thread

import pytest

from thresher.engine.control import RunControl, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_in_good_order_and_the_second_interrupts(number: signal.Signals) -> None:
    control, announced = RunControl(), list[str]()
    with stop_on_signals(control, lambda: announced.append("once")):
        os.kill(os.getpid(), number)
        assert control.stopping.wait(10)
        assert (control.reason, control.error) == ("interrupted", None)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 # the signal arrives while waiting
            os.kill(os.getpid(), number)
            control.wait(10)
    assert announced == ["once"]


def test_the_handlers_of_before_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(ValueError, match="x"), stop_on_signals(RunControl()):
        raise ValueError("x")
    assert {number: signal.getsignal(number) for number in before} == before


def test_outside_the_main_thread_nothing_changes() -> None:
    before, seen = signal.getsignal(signal.SIGINT), list[object]()

    def inside() -> None:
        with stop_on_signals(RunControl()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=inside)
    thread.start()
    thread.join(10)
    assert seen == [before]


def test_the_first_error_and_the_first_reason_stay() -> None:
    control, first = RunControl(), ValueError("first")
    control.fail(first)
    control.fail(ValueError("second"))
    control.stop("third")
    assert (control.error, control.reason) == (first, "first")


def test_wakes_before_a_wait_are_not_lost_and_do_not_pile_up() -> None:
    control = RunControl()
    for _ in range(3):
        control.wake()
    control.wait(3600)  # returns at once
    assert control._wake.empty()
    control.wait(-1)  # nothing is there: it does not wait for ever either
