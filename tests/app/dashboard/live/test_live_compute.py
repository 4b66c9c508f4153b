"""The two threads of all computing: one thing after the other in each, and none waits for
itself."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lcmae.app.dashboard.live.compute import compute


def thread() -> int:
    return threading.get_ident()


def test_everybody_computes_in_the_same_thread():
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: compute(thread), range(8)))
    assert len(found) == 1
    assert threading.get_ident() not in found


def test_what_is_computed_beside_has_a_thread_of_its_own():
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: compute(thread, beside=True), range(8)))
    assert len(found) == 1
    assert found.isdisjoint({compute(thread), threading.get_ident()})
    # both are at work at the same time: each waits for the other
    meeting = threading.Barrier(2, timeout=30)
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(compute, meeting.wait, beside=beside) for beside in (False, True))
        assert {first.result(), second.result()} == {0, 1}


def test_what_computes_may_compute_more():
    assert compute(lambda: compute(thread)) == compute(thread)
    beside = compute(thread, beside=True)
    assert compute(lambda: compute(thread), beside=True) == beside
    assert compute(lambda: compute(thread, beside=True)) == compute(thread)


def test_an_error_reaches_whoever_asked_and_the_thread_goes_on():
    with pytest.raises(ZeroDivisionError):
        compute(lambda: 1 / 0)
    assert compute(lambda: 1) == 1
