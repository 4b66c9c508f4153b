"""What is computed before it is asked for: after a rest, in order, and not once somebody asks for
something else."""

import logging
import threading
from collections.abc import Callable

import pytest

from lcmae.app.dashboard.live import prefetch
from lcmae.errors import InputError

after_rest = prefetch.after_rest
"""As it is without the fixture that has pages compute nothing ahead."""


@pytest.fixture(autouse=True)
def _rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "REST", 0.01)


def everything_is_taken() -> None:
    prefetch._thread.submit(lambda: None).result(10)


def test_steps_of_a_part_are_taken_in_their_order():
    taken: list[int] = []
    after_rest(lambda: ([lambda: taken.append(1), lambda: taken.append(2)], []))
    everything_is_taken()
    assert taken == [1, 2]


def test_both_parts_are_taken_at_once():
    meeting, met = threading.Barrier(2), []

    def meet() -> None:
        meeting.wait(10)
        met.append(1)

    after_rest(lambda: ([meet], [meet]))
    everything_is_taken()
    assert len(met) == 2


def test_none_is_taken_during_the_rest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prefetch, "REST", 60)
    taken: list[int] = []
    after_rest(lambda: ([lambda: taken.append(1)], [lambda: taken.append(2)]))
    prefetch.stop()
    everything_is_taken()
    assert taken == []


def test_the_steps_that_are_being_taken_are_the_last():
    started, go_on, taken = threading.Barrier(3), threading.Event(), []

    def step(number: int) -> None:
        started.wait(10)
        go_on.wait(10)
        taken.append(number)

    after_rest(lambda: ([lambda: step(1), lambda: step(2)], [lambda: step(3), lambda: step(4)]))
    started.wait(10)
    after_rest(lambda: ([lambda: taken.append(5)], []))  # stops the others
    go_on.set()
    everything_is_taken()
    assert sorted(taken[:2]) == [1, 3]
    assert taken[2:] == [5]


def test_what_steps_ask_for_stops_nothing_whichever_thread_asks():
    taken: list[int] = []

    def asks(number: int) -> None:
        prefetch.stop()
        taken.append(number)

    after_rest(lambda: ([lambda: asks(1), lambda: taken.append(2)], [lambda: asks(3), lambda: taken.append(4)]))
    everything_is_taken()
    assert sorted(taken) == [1, 2, 3, 4]


def test_a_problem_is_left_to_whoever_asks(caplog: pytest.LogCaptureFixture):
    taken: list[int] = []

    def unreadable() -> tuple[list[Callable[[], None]], list[Callable[[], None]]]:
        raise InputError("no such image")

    def broken() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        after_rest(unreadable)
        everything_is_taken()
        assert not caplog.records
        after_rest(lambda: ([broken, lambda: taken.append(1)], [lambda: taken.append(2)]))
        everything_is_taken()
    assert [record.message for record in caplog.records] == ["what was computed ahead failed"]
    assert taken == [2]
