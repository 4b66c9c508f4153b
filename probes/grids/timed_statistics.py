"""The statistics of images within a time: all of them, or those of one ratio where all take too
long."""

import math
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


EARLY, HOPELESS = 5, 1.5
"""Steps after which it can be told that all will take this many times as long as they may."""


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
        found = _taken(pixels[:MOST_IMAGES], labels, patch_size, seed, *every, progress, seconds)
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
    seconds: float = math.inf,
) -> xr.Dataset | None:
    """None where they take more seconds than these, or clearly will."""
    known = None if labels is None else labels[: len(pixels)]
    began, done, steps = time.monotonic(), 0, image_statistics.num_steps(ratios, units)
    with nullcontext() if progress is None else progress("statistics", steps) as bar:

        def advance() -> None:
            nonlocal done
            done += 1
            if bar is not None:
                bar.advance()
            spent = time.monotonic() - began
            hopeless = done >= EARLY and spent / done * steps > HOPELESS * seconds
            if done < steps and (spent > seconds or hopeless):
                raise _OutOfTime

        try:
            return image_statistics.image_statistics(
                pixels, known, patch_size, ratios=ratios, units=units, seed=seed, advance=advance
            )
        except _OutOfTime:
            return None
