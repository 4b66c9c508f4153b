"""Hidden rectangles: the mask of BEiT."""

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking.base import MaskStrategy, chance
from lcmae.masking.rectangles import Span, corner, log_uniform, positions, sides, uniform
from lcmae.patches import Grid
from lcmae.shapes import Float

BLOCKS_A_ROUND = 16


class Block(MaskStrategy):
    """Rectangles are hidden one after another until the count is reached (blockwise masking of
    BEiT, Bao et al., 2106.08254).

    Each block has a random area, a log-uniform aspect and a uniform corner. In a picture: a few
    large dark rectangles, so a hidden patch is often far from anything visible. BEiT's loop may
    stop short of its count; here blocks come until it is reached, and the last one is trimmed line
    by line, from its top or its bottom, so the count is exact.
    """

    kind: Literal["block"] = "block"

    min_block: int = Field(default=4, ge=1)
    """Smallest block, in patches (BEiT's class default; its ImageNet recipe uses 16)."""

    max_block: int | None = Field(default=None, ge=1)
    """Largest block, in patches; by default half of the patches to hide."""

    aspect: Span = (0.3, 1 / 0.3)
    """Range of height / width of a block; log-uniform."""

    @model_validator(mode="after")
    def _sizes_are_a_range(self) -> "Block":
        if self.max_block is not None and self.max_block < self.min_block:
            raise ValueError(f"expected max_block >= min_block ({self.min_block}), got {self.max_block}")
        return self

    def check(self, grid: Grid) -> None:
        super().check(grid)
        for name, size in (("min_block", self.min_block), ("max_block", self.max_block)):
            if size is not None and size > grid[0] * grid[1]:
                raise InputError(
                    f"expected {name} of at most {grid[0] * grid[1]} patches on a {grid[0]}x{grid[1]} grid, got {size}"
                )

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        num_patches, num_hidden = grid[0] * grid[1], self.num_hidden(grid)

        # all images draw a round of blocks together, until each has enough; a patch belongs to the
        # first block over it
        hidden = torch.zeros(num_images, *grid, dtype=torch.bool, device=rng.device)
        preference = torch.zeros(num_images, *grid, device=rng.device)
        drawn = 0
        while drawn < 16 * num_patches and (drawn == 0 or bool((hidden.sum((1, 2)) < num_hidden).any())):
            covered, within, which = self._round(num_images, grid, rng)
            # earlier blocks first; within a block, line by line
            preference = torch.where(covered & ~hidden, within - drawn - which, preference)
            hidden = hidden | covered
            drawn += BLOCKS_A_ROUND
        # chance decides among patches that no block reached
        leftover = chance((num_images, *grid), rng) - drawn - 1
        return rearrange(torch.where(hidden, preference, leftover), "b r c -> b (r c)")

    def _round(self, num_images: int, grid: Grid, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """[b rows columns] of a round of blocks: is the patch covered; its position in its first
        block, in (0, 1]; which block."""
        num_patches, num_hidden = grid[0] * grid[1], self.num_hidden(grid)
        largest = min(self.max_block or max(self.min_block, num_hidden // 2), num_patches)

        area, slant, top, left, end = chance((5, num_images, BLOCKS_A_ROUND), rng)
        height, width = sides(
            uniform(area, (float(self.min_block), float(largest))), log_uniform(slant, self.aspect), grid
        )
        top, left = corner(top, height, grid[0]), corner(left, width, grid[1])

        # what is left of each block for a patch to be first covered by: 16 for the first block, 1
        # for the last, 0 for none
        row, column = positions(grid, rng.device)
        in_rows = (row >= top[..., None]) & (row < (top + height)[..., None])
        in_columns = (column >= left[..., None]) & (column < (left + width)[..., None])
        turn = torch.arange(BLOCKS_A_ROUND, 0, -1, dtype=torch.uint8, device=rng.device)[:, None]
        first = ((in_rows * turn)[..., :, None] * in_columns[..., None, :]).amax(1)
        covered = first > 0
        which = (BLOCKS_A_ROUND - first.long()).clamp(max=BLOCKS_A_ROUND - 1)

        # reading order within that block, from its top or from its bottom
        flat = rearrange(which, "b r c -> b (r c)")
        own_top, own_left, own_height, own_width, own_end = (
            side.gather(1, flat).view(which.shape) for side in (top, left, height, width, end)
        )
        line = row[:, None] - own_top
        line = torch.where(own_end < 0.5, line, own_height - 1 - line)
        position = (line * own_width + column - own_left) / (own_height * own_width)
        return covered, 1 - position, which
