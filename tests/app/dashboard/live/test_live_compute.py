"""The thread of all computing: one thing after the other, and it never waits for itself."""

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


def test_what_computes_may_compute_more():
    assert compute(lambda: compute(thread)) == compute(thread)


def test_an_error_reaches_whoever_asked_and_the_thread_goes_on():
    with pytest.raises(ZeroDivisionError):
        compute(lambda: 1 / 0)
    assert compute(lambda: 1) == 1
