"""Every patch alike: the mask of MAE."""

from typing import Literal

import torch
from torch import Tensor

from lcmae.masking.base import MaskStrategy, chance
from lcmae.patches import Grid
from lcmae.shapes import Float


class Random(MaskStrategy):
    """Each patch is hidden with the same chance, independently but for the exact count (He et al.,
    MAE, 2111.06377).

    In a picture: salt and pepper. Every hidden patch has a visible neighbour more often than not.
    """

    kind: Literal["random"] = "random"

    def is_uniform(self, grid: Grid) -> bool:
        return True

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        return chance((num_images, grid[0] * grid[1]), rng)
