"""Freed memory goes back to the system."""

import os
import platform
from pathlib import Path

import numpy as np
import pytest

from lcmae.free_memory import release_free


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
