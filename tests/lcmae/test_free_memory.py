"""Freed memory goes back to the system."""

import os
import platform
from pathlib import Path

import numpy as np
import pytest

from lcmae import free_memory
from lcmae.free_memory import release_free, releasing


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc and /proc")
def test_what_is_freed_below_the_newest_block_is_given_back() -> None:
    blocks = [np.ones(100_000, np.uint8) for _ in range(1000)]  # too small for pages of their own
    newest = blocks[-1]
    held = resident()
    del blocks
    release_free()
    assert newest.all()
    assert resident() < held - 50e6


def test_long_work_gives_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, given_back = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr(free_memory, "release_free", lambda: given_back.append(clock[0]))

    def steps(seconds: list[float]):
        for one in seconds:
            clock[0] += one
            yield

    assert list(releasing(steps([4.0, 7.0, 1.0, 30.0, 2.0]))) == [None] * 5
    assert given_back == [11.0, 42.0]
    given_back.clear()

    def failing():
        yield
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(releasing(failing()))
    assert given_back == []
