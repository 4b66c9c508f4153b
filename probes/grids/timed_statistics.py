"""The statistics of images within a time: all of them, or those of one ratio where all take too
long."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import xarray as xr

from lcmae.probes.grids import image_statistics

Say = Callable[[str], object]
Progress = Callable[[str, int], Any]
"""`progress(label, steps)` is a context manager with `advance()`."""

MOST_IMAGES, FEW_IMAGES = 1000, 200
"""Images that all statistics are of, and those of one ratio."""


class _OutOfTime(Exception):
    """Ends what takes too long; never leaves this file."""


def within(
    seconds: float,
    pixels: torch.Tensor,
    labels: torch.Tensor | None,
    patch_size: int,
    seed: int,
    *,
    say: Say,
    progress: Progress | None = None,
) -> xr.Dataset:
    """`image_statistics` of uint8 images [b c h w] with classes [b], or without: of every ratio and
    unit where that takes at most so many seconds, else of random 0.75 alone (4 of 25 steps)."""
    say(f"statistics of {len(pixels)} images")
    if seconds > 0:
        every = image_statistics.RATIOS, image_statistics.UNITS
        end = time.monotonic() + seconds
        found = _taken(pixels[:MOST_IMAGES], labels, patch_size, seed, *every, progress, end)
        if found is not None:
            return found
        say("statistics take long on this machine: those of one ratio alone, to leave time for a race")
    found = _taken(pixels[:FEW_IMAGES], labels, patch_size, seed, (0.75,), (1,), progress)
    assert found is not None
    return found


def _taken(
    pixels: torch.Tensor,
    labels: torch.Tensor | None,
    patch_size: int,
    seed: int,
    ratios: tuple[float, ...],
    units: tuple[int, ...],
    progress: Progress | None,
    end: float | None = None,
) -> xr.Dataset | None:
    """None where they are not done at `end`, a `time.monotonic()`."""
    known = None if labels is None else labels[: len(pixels)]
    left = image_statistics.num_steps(ratios, units)
    with nullcontext() if progress is None else progress("statistics", left) as bar:

        def advance() -> None:
            nonlocal left
            left -= 1
            if bar is not None:
                bar.advance()
            if left > 0 and end is not None and time.monotonic() > end:
                raise _OutOfTime

        try:
            return image_statistics.image_statistics(
                pixels, known, patch_size, ratios=ratios, units=units, seed=seed, advance=advance
            )
        except _OutOfTime:
            return None
