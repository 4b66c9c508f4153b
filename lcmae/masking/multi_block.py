"""Several hidden targets in a large context: the mask of I-JEPA."""

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.masking.base import MaskStrategy, chance
from lcmae.masking.rectangles import Share, Span, corner, depth, sides, uniform
from lcmae.patches import Grid
from lcmae.shapes import Float


class MultiBlock(MaskStrategy):
    """Visible is a large context block less several target blocks (multi-block masking of I-JEPA,
    Assran et al., 2301.08243).

    In a picture: a few dark rectangles of one size, which may overlap, and sometimes a dark frame
    at a side. Area and aspect are drawn apart (I-JEPA's code takes both from one number) and
    corners reach the last row and column (its code stops one short). I-JEPA predicts the targets
    alone and lets the count vary: it leaves about 42 % of a 14x14 grid visible. Here everything not
    visible is hidden, and the count is made exact by growing or shrinking the targets and the frame
    together, ring by ring; chance decides within the last ring.
    """

    kind: Literal["multi_block"] = "multi_block"

    ratio: float = Field(default=0.6, gt=0, lt=1)
    """Masking ratio: the share of patches that is hidden, between 0 and 1, both excluded."""

    num_targets: int = Field(default=4, ge=1, le=64)
    """Hidden target blocks an image."""

    target_scale: Share = (0.15, 0.2)
    """Range of the area of a target, as a share of the grid; uniform."""

    target_aspect: Span = (0.75, 1.5)
    """Range of height / width of a target; uniform."""

    context_scale: Share = (0.85, 1.0)
    """Range of the area of the square context, as a share of the grid; uniform."""

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        num_patches = grid[0] * grid[1]

        # the targets, and everything outside the context: positive where the paper's mask hides
        area, aspect, top, left = chance((4, num_images, self.num_targets), rng)
        height, width = sides(uniform(area, self.target_scale) * num_patches, uniform(aspect, self.target_aspect), grid)
        targets = depth(corner(top, height, grid[0]), corner(left, width, grid[1]), height, width, grid)
        area, top, left = chance((3, num_images), rng)
        # "square" is meant in the image's own proportions, so that a rectangular grid has a context
        # too
        height, width = sides(
            uniform(area, self.context_scale) * num_patches, torch.full_like(area, grid[0] / grid[1]), grid
        )
        frame = 1 - depth(corner(top, height, grid[0]), corner(left, width, grid[1]), height, width, grid)

        # a whole number of rings from the edge; chance decides within a ring
        rings = torch.maximum(targets.amax(1), frame)
        return rearrange(rings, "b r c -> b (r c)") + chance((num_images, num_patches), rng)
