"""Position tables of a checkpoint on another grid of patches."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.models import sincos_positions
from lcmae.patches import Grid
from lcmae.shapes import Float, Int

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


EXACT, NEAR = 0.01, 0.15
"""Root mean square between a table and a fixed one: the same (in bfloat16 it is 0.002 off), or what
training made of it. Tables of two grids of a few patches can be 0.2 apart."""

SAMPLED = 64
"""Columns that are compared, of each half."""


def sincos_grid(table: Float[Tensor, "n d"]) -> Grid | None:
    """The grid whose fixed 2-d sine-cosine positions these are, or were before they were trained
    on; None where they are others.

    The half for columns comes first, as MAE has it, or second (MoCo v3). A table is compared with
    those of every factorisation of its number of rows.
    """
    count, width = table.shape
    if table.is_meta or width % 4 or count < 2:
        return None
    half = width // 2
    columns = torch.arange(0, half, max(1, half // SAMPLED))
    first, second = (part[:, columns].detach().double() for part in table.split(half, dim=1))
    grids = [(height, count // height) for height in range(1, count + 1) if count % height == 0]
    apart: dict[Grid, float] = {}
    for one, other in ((first, second), (second, first)):
        for grid in grids:
            distance = _apart(one, other, sincos_positions(width, grid), columns)
            apart[grid] = min(apart.get(grid, distance), distance)
        # a single row or column is the same either way, up to its name
        if (exact := min(apart, key=apart.__getitem__)) and apart[exact] < EXACT:
            return exact
    best = min(apart, key=apart.__getitem__)
    return best if apart[best] < NEAR else None


def _apart(of_columns: Tensor, of_rows: Tensor, fixed: Float[Tensor, "n d"], sampled: Tensor) -> float:
    """Root mean square between the halves of a table and the fixed ones, over a sample of each."""
    first, second = (part[:, sampled].double() for part in fixed.chunk(2, dim=1))
    return float(((of_columns - first).square().mean() + (of_rows - second).square().mean()) / 2) ** 0.5


def index_grid(index: Int[Tensor, "t t"], rows: int) -> Grid | None:
    """The grid of BEiT's index into a table of `rows` relative positions; None where it has
    none."""
    count = len(index) - 1
    if index.is_meta or index.ndim != 2 or count < 1 or index.shape[1] != count + 1:
        return None
    for height in range(1, count + 1):
        width = count // height
        if height * width != count or (2 * height - 1) * (2 * width - 1) + 3 != rows:
            continue
        # a patch and itself, and the patch below it: (row, column) offsets of 0, 0 and -1, 0
        centre = (height - 1) * (2 * width - 1) + width - 1
        below = centre - (2 * width - 1) if height > 1 else centre
        if int(index[1, 1]) == centre and int(index[1, 1 + (width if height > 1 else 0)]) == below:
            return height, width
    return None


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


def fold_class_position(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions without the class token's row, which is added to the token itself: registers that
    go between them have no positions then."""
    table, token = tensors["pos_embed"], tensors["cls_token"]
    if table.ndim != 3 or token.ndim != 3 or table.shape[2] != token.shape[2] or table.shape[1] < 2:
        raise CheckpointError(
            f"expected positions [1 n d] and a class token [1 1 d], got {[*table.shape]}, {[*token.shape]}"
        )
    # shapes may have no values yet
    both: Any = (
        (token + table[:, :1]) if not (token.is_meta or table.is_meta) else torch.empty_like(token, device="meta")
    )
    return {**tensors, "cls_token": both, "pos_embed": table[:, 1:]}
