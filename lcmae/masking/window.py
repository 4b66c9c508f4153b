"""One visible rectangle: windows that stay within the image, and CAPI's that roll round its
border."""

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.masking.base import MaskStrategy, chance
from lcmae.masking.rectangles import Span, corner, enclosing, filled, log_uniform, positions
from lcmae.patches import Grid
from lcmae.shapes import Bool, Float


class Window(MaskStrategy):
    """One rectangle stays visible, everything round it is hidden (the `block` mask of HPM, Wang et
    al., 2304.05919).

    In a picture: a lit window in a dark wall, anywhere in the image, the corners included; most
    hidden patches are far from anything visible. HPM's is a square at ratio 0.75, and its code
    never shows the last row and column; here the ratio and the grid are free, and where the count
    is no rectangle, the window's last column is trimmed from one end.
    """

    kind: Literal["window"] = "window"

    aspect: Span = (1.0, 1.0)
    """Range of height / width of the window; log-uniform."""

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        num_visible = grid[0] * grid[1] - self.num_hidden(grid)
        slant, top, left, *flips = chance((5, num_images), rng)
        height, width = enclosing(num_visible, log_uniform(slant, self.aspect), grid)
        row, column = positions(grid, rng.device)
        down = row - corner(top, height, grid[0])[:, None]
        across = column - corner(left, width, grid[1])[:, None]
        return hide_outside(filled(down, across, height, width, num_visible, torch.stack(flips)))


class InverseBlock(MaskStrategy):
    """One rectangle stays visible and is rolled round the border (inverse block masking of CAPI,
    Darcet et al., 2502.08769).

    In a picture: Window, but a rectangle that leaves the image on one side comes in at the other,
    so every patch has the same chance to be hidden (Window hides borders more often). The aspect is
    log-uniform and the count exact: the rectangle's last column is trimmed from one end.
    """

    kind: Literal["inverse_block"] = "inverse_block"

    ratio: float = Field(default=0.65, gt=0, lt=1)
    """Masking ratio: the share of patches that is hidden, between 0 and 1, both excluded (CAPI uses
    0.65)."""

    aspect: Span = (0.5, 2.0)
    """Range of height / width of the visible rectangle; log-uniform."""

    def is_uniform(self, grid: Grid) -> bool:
        return True

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        num_visible = grid[0] * grid[1] - self.num_hidden(grid)
        slant, top, left, *flips = chance((5, num_images), rng)
        height, width = enclosing(num_visible, log_uniform(slant, self.aspect), grid)
        row, column = positions(grid, rng.device)
        down = (row - (top * grid[0]).floor()[:, None]) % grid[0]
        across = (column - (left * grid[1]).floor()[:, None]) % grid[1]
        return hide_outside(filled(down, across, height, width, num_visible, torch.stack(flips)))


def hide_outside(shown: Bool[Tensor, "b rows columns"]) -> Float[Tensor, "b n"]:
    """The preference that hides exactly what is not shown."""
    return rearrange(~shown, "b r c -> b (r c)").float()
