"""Random masking in units larger than a patch: the mask of SimMIM."""

from typing import Any, Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking.base import MaskStrategy, chance
from lcmae.patches import Grid
from lcmae.shapes import Float


class CoarseRandom(MaskStrategy):
    """Square units of patches are hidden at random, whole units first (SimMIM, Xie et al.,
    2111.09886).

    In a picture: salt and pepper with coarse grains. SimMIM's unit is 32 pixels, 8 of its Swin's
    patches of 4 pixels or 2 of a ViT's patches of 16, at ratio 0.6;
    `CoarseRandom.of_pixels(unit=32, patch_size=16)` says so in pixels, apart from the patch size.
    Where the count is not a whole number of units (SimMIM hides more then), the last unit is
    trimmed by chance; units cut off by the border take part with what they have.
    """

    kind: Literal["coarse_random"] = "coarse_random"

    unit: int = Field(default=2, ge=1)
    """Side of a unit, in patches."""

    @classmethod
    def of_pixels(cls, unit: int, patch_size: int, **settings: Any) -> "CoarseRandom":
        """From the side of a unit in pixels. `InputError` where it is not a whole number of
        patches."""
        if unit < patch_size or unit % patch_size:
            raise InputError(f"expected a mask unit of a whole number of {patch_size}-pixel patches, got {unit} pixels")
        return cls(unit=unit // patch_size, **settings)

    def check(self, grid: Grid) -> None:
        super().check(grid)
        if self.unit > min(grid) or self.unit >= max(grid):
            raise InputError(
                f"expected a mask unit of at most {min(min(grid), max(grid) - 1)} patches on a {grid[0]}x{grid[1]} grid, "
                f"got {self.unit}"
            )

    def is_uniform(self, grid: Grid) -> bool:
        return grid[0] % self.unit == 0 and grid[1] % self.unit == 0

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        down, across = -(-grid[0] // self.unit), -(-grid[1] // self.unit)
        turns = chance((num_images, down * across), rng).argsort(dim=1)
        turns = rearrange(turns, "b (d a) -> b d a", d=down)
        turns = turns.repeat_interleave(self.unit, 1).repeat_interleave(self.unit, 2)[:, : grid[0], : grid[1]]
        # within a unit, chance decides
        return rearrange(turns, "b r c -> b (r c)") + chance((num_images, grid[0] * grid[1]), rng)
