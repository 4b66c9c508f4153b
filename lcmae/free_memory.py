"""Memory of this process."""

import ctypes
import time
from collections.abc import Iterable, Iterator


def release_free() -> None:
    """Give what this process has freed back to the system, where the C library can (glibc; else
    nothing happens).

    glibc keeps freed blocks below the newest one. After `transfer` has learned from 2,000 images on
    a ViT-Tiny that is 137 MiB, on top of which the passes over the images would take theirs; after
    15 passes of 20 probes over 60 images it is 106 MiB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def releasing(steps: Iterable[None], every: float = 10.0) -> Iterator[None]:
    """The same steps; each time that `every` seconds have gone by, what is free goes back.

    A small tensor that stays may lie in the middle of room that was freed for larger ones, which
    then need new room. On a ViT-B/16 each gradient of `knock_out` left 12 MiB of such room: 3 GiB
    after 600 steps.
    """
    last = time.monotonic()
    for step in steps:
        yield step
        if time.monotonic() - last >= every:
            release_free()
            last = time.monotonic()
