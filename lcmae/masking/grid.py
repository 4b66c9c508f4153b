"""A regular share of every cell: the mask of UM-MAE."""

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking.base import MaskStrategy, chance
from lcmae.patches import Grid as GridSize
from lcmae.shapes import Float, Int


class Grid(MaskStrategy):
    """From every cell of s x s patches, the same number stays visible (uniform sampling of UM-MAE,
    Li et al., 2205.10063).

    In a picture: the visible patches are spread evenly, never far from any hidden one. With cell 2
    and ratio 0.75, UM-MAE's own case, exactly one patch of each 2 x 2 cell is visible. At other
    ratios the cells take their patches in turns: no whole cell has two more visible than another,
    and a cell cut off by the border shows the same share of what it has.
    """

    kind: Literal["grid"] = "grid"

    cell: int = Field(default=2, ge=2)
    """Side s of a cell, in patches."""

    def check(self, grid: GridSize) -> None:
        super().check(grid)
        if self.cell > min(grid):
            raise InputError(
                f"expected a cell of at most {min(grid)} patches on a {grid[0]}x{grid[1]} grid, got {self.cell}"
            )

    def is_uniform(self, grid: GridSize) -> bool:
        # beside cells cut off by the border the chance is the same but for the rounding to whole
        # patches
        return grid[0] % self.cell == 0 and grid[1] % self.cell == 0

    def preference(self, num_images: int, grid: GridSize, rng: torch.Generator) -> Float[Tensor, "b n"]:
        rows, columns = grid
        down, across = -(-rows // self.cell), -(-columns // self.cell)
        noise = chance((num_images, down * self.cell, across * self.cell), rng)
        # positions beyond the border never get a turn
        noise[:, rows:, :] = 2.0
        noise[:, :, columns:] = 2.0
        cells = rearrange(noise, "b (d s) (a t) -> b (d a) (s t)", s=self.cell, t=self.cell)
        # the turn of each patch within its cell: turn 0 is shown first, so it is the last to be
        # hidden
        turns = cells.argsort(dim=-1).argsort(dim=-1)
        turns = rearrange(turns, "b (d a) (s t) -> b (d s) (a t)", d=down, s=self.cell, t=self.cell)[:, :rows, :columns]
        # within one turn, chance decides between cells
        turns = turns + chance((num_images, rows, columns), rng)
        # as a share of the cell: in turns alone, a cell of one patch would always show it
        heights = _cut(rows, self.cell, rng.device)
        widths = _cut(columns, self.cell, rng.device)
        return rearrange(turns / (heights[:, None] * widths), "b r c -> b (r c)")


def _cut(length: int, cell: int, device: torch.device) -> Int[Tensor, " length"]:
    """For each row (or column), how many rows its cell has on the grid."""
    start = torch.arange(length, device=device) // cell * cell
    return (length - start).clamp(max=cell)
