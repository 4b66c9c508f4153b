"""How far from a point the mass of a gradient reaches: distances of pixels, and the smallest one
within which a share lies."""

import math
from typing import Literal

import torch
from torch import Tensor

from lcmae.shapes import Float


def pixel_distances(
    size: tuple[int, int], centre: Float[Tensor, "2"], shape: Literal["square", "disc"]
) -> Float[Tensor, "h w"]:
    """Distance of each pixel's middle from a point, in pixels: the larger of the two axes, or
    Euclidean."""
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) + 0.5 for side in size), indexing="ij")
    away = torch.stack([y - centre[0], x - centre[1]]).abs()
    return away.amax(0) if shape == "square" else away.norm(dim=0)


def reach_of_mass(maps: Float[Tensor, "m h w"], distance: Float[Tensor, "h w"], mass: float) -> Float[Tensor, " m"]:
    """The smallest distance within which a share `mass` of each map lies; NaN for a map that is
    zero."""
    levels, level = distance.flatten().unique(return_inverse=True)
    within = torch.zeros(len(maps), len(levels), dtype=torch.float64).index_add_(1, level, maps.flatten(1).double())
    within = within.cumsum(1)
    total = within[:, -1:]
    # sums in another order may fall short of the total by rounding
    first = (within >= mass * total * (1 - 1e-12)).int().argmax(1)
    return torch.where(total[:, 0] > 0, levels[first], math.nan)
