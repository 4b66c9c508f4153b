"""What is computed before it is asked for: after a rest, in order, and not once somebody asks for something else."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from app import ahead
from lcmae.errors import InputError

after_rest = ahead.after_rest
"""As it is without the fixture that has pages compute nothing ahead."""


@pytest.fixture(autouse=True)
def _rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "REST", 0.01)


def everything_is_taken() -> None:
    ahead._thread.submit(lambda: None).result(10)


def test_steps_are_taken_in_their_order():
    taken: list[int] = []
    after_rest([lambda: taken.append(1), lambda: taken.append(2)])
    everything_is_taken()
    assert taken == [1, 2]


def test_none_is_taken_during_the_rest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ahead, "REST", 60)
    taken: list[int] = []
    after_rest([lambda: taken.append(1)])
    ahead.stop()
    everything_is_taken()
    assert taken == []


def test_the_step_that_is_being_taken_is_the_last():
    started, go_on, taken = threading.Event(), threading.Event(), []

    def first() -> None:
        started.set()
        go_on.wait(10)
        taken.append(1)

    after_rest([first, lambda: taken.append(2)])
    assert started.wait(10)
    after_rest([lambda: taken.append(3)])  # stops the others
    go_on.set()
    everything_is_taken()
    assert taken == [1, 3]


def test_a_problem_is_left_to_whoever_asks(caplog: pytest.LogCaptureFixture):
    taken: list[int] = []

    def unreadable() -> Iterator[Callable[[], None]]:
        raise InputError("no such image")
        yield lambda: taken.append(1)

    def broken() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        after_rest(unreadable())
        everything_is_taken()
        assert not caplog.records
        after_rest([broken, lambda: taken.append(2)])
        everything_is_taken()
    assert [record.message for record in caplog.records] == ["what was computed ahead failed"]
    assert taken == []
