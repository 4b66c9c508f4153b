"""What is computed before it is asked for: after a pause, in order, and not once somebody asks for
something else."""

import logging
import threading
from collections.abc import Callable

import pytest

from lcmae.app.dashboard.live import prefetch
from lcmae.errors import InputError

start = prefetch.start
"""As it is without the fixture by which pages prefetch nothing."""


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "PAUSE", 0.01)


def finish() -> None:
    prefetch._thread.submit(lambda: None).result(10)


def test_steps_are_taken_in_their_order():
    taken: list[int] = []
    start(lambda: [lambda: taken.append(1), lambda: taken.append(2)])
    finish()
    assert taken == [1, 2]


def test_none_is_taken_during_the_pause(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prefetch, "PAUSE", 60)
    taken: list[int] = []
    start(lambda: [lambda: taken.append(1)])
    prefetch.stop()
    finish()
    assert taken == []


@pytest.mark.parametrize("stop", [prefetch.stop, lambda: start(list)], ids=["stop", "another start"])
def test_the_step_that_is_running_is_the_last(stop: Callable[[], None]):
    running, go_on, taken = threading.Event(), threading.Event(), []

    def step(number: int) -> None:
        running.set()
        go_on.wait(10)
        taken.append(number)

    start(lambda: [lambda: step(1), lambda: step(2)])
    assert running.wait(10)
    stop()
    go_on.set()
    finish()
    assert taken == [1]


def test_what_a_step_asks_for_stops_nothing():
    taken: list[int] = []
    start(lambda: [prefetch.stop, lambda: taken.append(1)])
    finish()
    assert taken == [1]


def test_a_problem_is_left_to_whoever_asks(caplog: pytest.LogCaptureFixture):
    taken: list[int] = []

    def unreadable() -> list[Callable[[], None]]:
        raise InputError("no such image")

    def broken() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        start(unreadable)
        finish()
        assert not caplog.records
        start(lambda: [broken, lambda: taken.append(1)])
        finish()
    assert [record.message for record in caplog.records] == ["prefetch failed"]
    assert taken == []
