"""Pairs of masks that partition the image."""

from typing import Annotated, Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking.base import MaskStrategy, at_ratio, chance
from lcmae.masking.block import Block
from lcmae.masking.coarse import CoarseRandom
from lcmae.masking.grid import Grid
from lcmae.masking.multi_block import MultiBlock
from lcmae.masking.noise import Noise
from lcmae.masking.pattern import Checkerboard, Stripes
from lcmae.masking.random import Random
from lcmae.masking.window import InverseBlock, Window
from lcmae.patches import Grid as GridSize
from lcmae.shapes import Float

FreeMask = Annotated[
    Random | CoarseRandom | Block | Grid | Window | InverseBlock | MultiBlock | Noise | Checkerboard | Stripes,
    Field(discriminator="kind"),
]
"""Strategies that need nothing but a generator."""


class Complementary(MaskStrategy):
    """Masks come in pairs, 2i and 2i + 1, and what one hides the other shows (a tool of this
    workbench, for alignment tests).

    In a picture: a mask of the strategy `of` at ratio 0.5 beside its negative; chance decides which
    comes first, so every patch has the same chance to be hidden whatever `of` prefers. Asked for
    two masks an image (LC-MAE with `num_masks` 2), every image gets such a pair. Wants an even
    number of patches; an odd number of masks leaves the last one alone.
    """

    kind: Literal["complementary"] = "complementary"

    ratio: float = Field(default=0.5, ge=0.5, le=0.5)
    """Masking ratio: always 0.5, for both masks of a pair to have one count."""

    of: FreeMask = Random(ratio=0.5)
    """The strategy that draws the first mask of each pair, at ratio 0.5 whatever it says itself."""

    def check(self, grid: GridSize) -> None:
        super().check(grid)
        if grid[0] * grid[1] % 2:
            raise InputError(
                f"expected an even number of patches for complementary masks, got a {grid[0]}x{grid[1]} grid"
            )
        at_ratio(self.of, self.ratio).check(grid)

    def is_uniform(self, grid: GridSize) -> bool:
        return True

    def preference(self, num_images: int, grid: GridSize, rng: torch.Generator) -> Float[Tensor, "b n"]:
        num_pairs = (num_images + 1) // 2
        first = at_ratio(self.of, self.ratio)(num_pairs, grid, rng).is_hidden
        first = first ^ (chance((num_pairs, 1), rng) < 0.5)
        return rearrange(torch.stack([first, ~first], dim=1), "b two n -> (b two) n")[:num_images].float()
