"""The two threads of all computing: each does one thing after the other, both do something at once,
neither waits for itself."""

import threading

import pytest
import torch

from lcmae.app.dashboard.live import compute as computing

LONG = 20  # seconds after which something that should meet has not met


def name() -> str:
    return threading.current_thread().name


def compute(call, *, by_twin: bool = False):
    return computing.compute(call, by_twin=by_twin, on_all_cores=False)


def test_each_thread_stays_the_same():
    names = [compute(name, by_twin=by_twin) for by_twin in (False, True, False, True)]
    assert names[0] == names[2] != names[1] == names[3]


def test_the_two_compute_at_once():
    meeting = threading.Barrier(2)
    computing.together(
        lambda: compute(lambda: meeting.wait(LONG)), lambda: compute(lambda: meeting.wait(LONG), by_twin=True)
    )


def test_whoever_computes_already_computes_on_and_the_first_may_ask_the_second():
    assert compute(lambda: compute(name)) == compute(name)
    assert compute(lambda: compute(name, by_twin=True), by_twin=True) == compute(name, by_twin=True)
    assert compute(lambda: compute(name, by_twin=True)) == compute(name, by_twin=True)


def test_what_either_raises_is_raised_once_both_are_done():
    done: list[str] = []

    def fails() -> None:
        done.append("fails")
        raise ZeroDivisionError

    for first, second in ((fails, lambda: done.append("ends")), (lambda: done.append("ends"), fails)):
        with pytest.raises(ZeroDivisionError):
            computing.together(first, second)
        assert sorted(done) == ["ends", "fails"]
        done.clear()


def test_a_call_takes_as_many_threads_as_it_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(computing, "all_threads", lambda: 2)  # on a machine of any size
    found = [computing.compute(torch.get_num_threads, by_twin=False, on_all_cores=many) for many in (False, True)]
    assert found == [1, 2]
