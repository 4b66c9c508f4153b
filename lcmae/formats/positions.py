"""Position tables of a checkpoint on another grid of patches."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.patches import Grid
from lcmae.shapes import Float

ABSOLUTE = ("pos_embed", "decoder_pos_embed", "positions")
RELATIVE = "relative_position_bias_table"


def square_grid(num_patches: int, where: str) -> Grid:
    """The grid of a table of positions when nothing but their number is known."""
    side = math.isqrt(max(num_patches, 0))
    if side < 1 or side * side != num_patches:
        raise CheckpointError(
            f"expected a square grid of positions in {where}, got {num_patches}; say image_size=(height, width)"
        )
    return side, side


def resample(tensors: dict[str, Tensor], old: Grid, new: Grid) -> dict[str, Tensor]:
    """All position tables of a state dict, bicubic; rows of prefix tokens are kept as they are."""
    resampled = dict(tensors)
    for name, table in tensors.items():
        if name in ABSOLUTE:
            prefix = table.shape[1] - old[0] * old[1]
            resampled[name] = torch.cat([table[:, :prefix], bicubic(table[0, prefix:], old, new)[None]], dim=1)
        elif name.endswith(RELATIVE):
            # offsets go from -(side - 1) to side - 1; the last three rows are those of the class
            # token
            around_old, around_new = (2 * old[0] - 1, 2 * old[1] - 1), (2 * new[0] - 1, 2 * new[1] - 1)
            resampled[name] = torch.cat([bicubic(table[:-3], around_old, around_new), table[-3:]])
    return resampled


def bicubic(table: Float[Tensor, "n d"], old: Grid, new: Grid) -> Float[Tensor, "m d"]:
    """A table over a grid on another grid, with antialiasing where it shrinks."""
    maps = rearrange(table, "(h w) d -> 1 d h w", h=old[0], w=old[1])
    maps = F.interpolate(maps, size=new, mode="bicubic", antialias=True)
    return rearrange(maps, "1 d h w -> (h w) d")
