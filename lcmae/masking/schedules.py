"""Schedules of the masking ratio over training. One ratio a batch, so that a batch keeps one shape.

A schedule is called with the progress of training in [0, 1] and a generator, and returns a ratio;
`at_ratio` gives a strategy that ratio. Every number of visible patches is a new shape (a compiled
model is compiled anew): `quantize` limits them.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from lcmae.errors import InputError
from lcmae.masking.base import MaskStrategy
from lcmae.patches import Grid
from lcmae.settings import Settings


class RatioSchedule(Settings):
    """Settings that you call with (progress, rng). Only `UniformPerBatch` draws from `rng`."""

    def __call__(self, progress: float, rng: torch.Generator) -> float:
        """The masking ratio at `progress`: 0 is the start of training, 1 its end. `InputError`
        outside of [0, 1]."""
        if not 0 <= progress <= 1:
            raise InputError(f"expected a progress between 0 and 1, got {progress}")
        return self.ratio_at(progress, rng)

    def ratio_at(self, progress: float, rng: torch.Generator) -> float:
        raise TypeError(f"{type(self).__name__} does not say a ratio")


class Constant(RatioSchedule):
    """The same ratio throughout."""

    kind: Literal["constant"] = "constant"

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Masking ratio."""

    def ratio_at(self, progress: float, rng: torch.Generator) -> float:
        return self.ratio


class Linear(RatioSchedule):
    """From `start` to `end` in a straight line."""

    kind: Literal["linear"] = "linear"

    start: float = Field(default=0.5, gt=0, lt=1)
    """Masking ratio at the start of training."""

    end: float = Field(default=0.75, gt=0, lt=1)
    """Masking ratio at the end of training."""

    def ratio_at(self, progress: float, rng: torch.Generator) -> float:
        return self.start + (self.end - self.start) * progress


class Cosine(RatioSchedule):
    """From `start` to `end` along half a cosine: slow, fast, slow."""

    kind: Literal["cosine"] = "cosine"

    start: float = Field(default=0.5, gt=0, lt=1)
    """Masking ratio at the start of training."""

    end: float = Field(default=0.75, gt=0, lt=1)
    """Masking ratio at the end of training."""

    def ratio_at(self, progress: float, rng: torch.Generator) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2


class Cyclic(RatioSchedule):
    """A sine wave round `mean`: mean + amplitude sin(2 pi cycles progress)."""

    kind: Literal["cyclic"] = "cyclic"

    mean: float = Field(default=0.75, gt=0, lt=1)
    """Masking ratio round which it swings."""

    amplitude: float = Field(default=0.1, ge=0, lt=0.5)
    """How far it swings to each side."""

    cycles: float = Field(default=4.0, gt=0)
    """Full swings from the start of training to its end."""

    @model_validator(mode="after")
    def _stays_a_ratio(self) -> "Cyclic":
        if not (self.mean - self.amplitude > 0 and self.mean + self.amplitude < 1):
            raise ValueError(f"expected mean -+ amplitude within (0, 1), got {self.mean} -+ {self.amplitude}")
        return self

    def ratio_at(self, progress: float, rng: torch.Generator) -> float:
        return self.mean + self.amplitude * math.sin(2 * math.pi * self.cycles * progress)


class UniformPerBatch(RatioSchedule):
    """A new ratio for every batch, uniform between `low` and `high` (the random ratio of R2MAE; the
    bounds are ours)."""

    kind: Literal["uniform_per_batch"] = "uniform_per_batch"

    low: float = Field(default=0.5, gt=0, lt=1)
    """Smallest masking ratio."""

    high: float = Field(default=0.9, gt=0, lt=1)
    """Largest masking ratio."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "UniformPerBatch":
        if self.high < self.low:
            raise ValueError(f"expected high >= low ({self.low}), got {self.high}")
        return self

    def ratio_at(self, progress: float, rng: torch.Generator) -> float:
        draw = float(torch.rand((), generator=rng, device=rng.device, dtype=torch.float64))
        return self.low + (self.high - self.low) * draw


AnySchedule = Annotated[Constant | Linear | Cosine | Cyclic | UniformPerBatch, Field(discriminator="kind")]


def quantize(ratio: float, grid: Grid, multiple: int) -> float:
    """The ratio nearest to `ratio` whose number of visible patches is a multiple of `multiple`, at
    least one multiple.

    `InputError` where no such number leaves a patch hidden.
    """
    num_patches = grid[0] * grid[1]
    if not 0 < multiple < num_patches:
        raise InputError(
            f"expected a multiple of 1 to {num_patches - 1} visible patches on a {grid[0]}x{grid[1]} grid, got {multiple}"
        )
    num_visible = num_patches - MaskStrategy(ratio=ratio).num_hidden(grid)
    steps = min(max(1, int(num_visible / multiple + 0.5)), (num_patches - 1) // multiple)
    return 1 - steps * multiple / num_patches
