"""Who of a pool's threads works: all, or one while they would only take the interpreter's lock from each other."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence

import pytest

from thresher.engine.executors.crew import FIRST_PATIENCE, LEAST_RATE, Crew
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.work import Claim

CLAIM = Claim(1, "r", "k", "a", (1,), "item", None, {}, 1, 0, "me")


class Machine:
    """Time, and processors in use."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def crew(self) -> Crew:
        return Crew(clock=lambda: self.now, processor_time=lambda: self.used)

    def passes(self, seconds: float, busy: float) -> None:
        self.now += seconds
        self.used += seconds * busy


@pytest.fixture
def machine() -> Machine:
    return Machine()


def measured(machine: Machine, crew: Crew, rate: float, busy: float, seconds: float = 1.0) -> bool:
    machine.passes(seconds, busy)
    crew.measure(round(rate * seconds), by_first=1)
    return crew.is_alone


def test_one_works_alone_where_items_are_python_code(machine: Machine) -> None:
    crew = machine.crew()
    assert not crew.is_alone
    assert measured(machine, crew, 1000, 1.1)


@pytest.mark.parametrize(
    ("rate", "busy"),
    [(LEAST_RATE / 2, 1.0), (5000, 0.3), (5000, 3.5)],
    ids=["long items", "items that wait", "items that use several processors"],
)
def test_all_work_where_more_do_more(machine: Machine, rate: float, busy: float) -> None:
    assert not measured(machine, machine.crew(), rate, busy)


def test_all_work_where_somebody_has_waited_for_a_model(machine: Machine) -> None:
    crew = machine.crew()
    crew.about_to_wait()
    assert not measured(machine, crew, 1000, 1.0)
    assert measured(machine, crew, 1000, 1.0), "nobody has since"


def test_all_work_where_the_first_may_be_waiting(machine: Machine) -> None:
    crew = machine.crew()
    machine.passes(1.0, 1.0)
    crew.measure(1000, by_first=0)
    assert not crew.is_alone


def test_all_work_the_moment_that_somebody_is_about_to_wait(machine: Machine) -> None:
    crew = machine.crew()
    assert measured(machine, crew, 1000, 1.0)
    crew.about_to_wait()
    assert not crew.is_alone


def test_one_stays_alone_while_that_is_not_slower(machine: Machine) -> None:
    crew = machine.crew()
    assert measured(machine, crew, 1000, 1.0)
    assert measured(machine, crew, 1200, 0.9)
    assert measured(machine, crew, 950, 0.9)
    assert not measured(machine, crew, 800, 0.5)


def test_it_is_tried_again_later_and_later_where_it_was_slower(machine: Machine) -> None:
    crew, tries = machine.crew(), list[float]()
    while machine.now < 40:
        if measured(machine, crew, 1000, 1.0, 0.1):
            tries.append(machine.now)
            measured(machine, crew, 500, 0.5, 0.1)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= FIRST_PATIENCE
    assert len(tries) < 8


def test_a_new_session_knows_nothing_of_the_last(machine: Machine) -> None:
    crew = machine.crew()
    assert measured(machine, crew, 1000, 1.0)
    crew.begin()
    assert not crew.is_alone


class Alone(Crew):
    """One works alone from the beginning."""

    def begin(self) -> None:
        super().begin()
        self._is_alone = True


class Worked:
    """Which threads worked on groups, as they are numbered by their first group."""

    def __init__(self) -> None:
        self.by: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, _claims: Sequence[Claim]) -> None:
        with self._lock:
            self.by.append(threading.get_ident())


def nothing() -> None:
    """Neither to be settled nor to be freed."""


@pytest.mark.timeout(30)
def test_alone_all_is_done_by_one_thread_and_the_others_end_with_the_session() -> None:
    worked, executor = Worked(), ThreadsExecutor(4, crew=Alone())
    executor.start(worked, nothing, nothing)
    idle = threading.Event()
    for _ in range(100):
        executor.submit([CLAIM])
    while executor.in_hand():
        idle.wait(0.01)
    executor.close(wait=True)
    assert len(worked.by) == 100
    assert len(set(worked.by)) == 1


@pytest.mark.timeout(60)
def test_no_thread_is_left_alone_that_has_long_been_waiting_itself() -> None:
    """What it waits for began before the last measurement, in which the others did thousands of items."""
    crew = Crew(processor_time=time.monotonic)  # busy with one interpreter's work, whatever else this machine does
    executor, answered, first = ThreadsExecutor(2, crew=crew), threading.Event(), threading.Event()

    def work(_claims: Sequence[Claim]) -> None:
        if not first.is_set():
            first.set()
            executor.about_to_wait()
            assert answered.wait(30)

    executor.start(work, nothing, nothing)
    executor.submit([CLAIM])
    try:
        assert first.wait(10)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            for _ in range(executor.room()):
                executor.submit([CLAIM])
            assert not crew.is_alone
    finally:
        answered.set()
        executor.close(wait=True)


@pytest.mark.timeout(30)
def test_others_take_over_from_one_that_waits() -> None:
    executor, others = ThreadsExecutor(4, crew=Alone()), threading.Event()
    lock, order = threading.Lock(), list[int]()

    def work(_claims: Sequence[Claim]) -> None:
        with lock:
            order.append(threading.get_ident())
            is_tenth, is_another = len(order) == 10, len(order) > 10 and order[-1] != order[9]
        if is_tenth:
            executor.about_to_wait()
            assert others.wait(20)
        elif is_another:
            others.set()

    executor.start(work, nothing, nothing)
    for _ in range(60):
        executor.submit([CLAIM])
    assert others.wait(20)
    while executor.in_hand():
        threading.Event().wait(0.01)
    executor.close(wait=True)
    assert len(order) == 60
