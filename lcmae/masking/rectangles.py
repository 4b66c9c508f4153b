"""Rectangles on the patch grid, for many images at once: what Block, Window, InverseBlock and
MultiBlock are drawn with."""

import math
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor

from lcmae.patches import Grid
from lcmae.shapes import Bool, Float


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if not 0 < span[0] <= span[1]:
        raise ValueError("expected (low, high) with 0 < low <= high")
    return span


def _share(span: tuple[float, float]) -> tuple[float, float]:
    if not 0 < span[0] <= span[1] <= 1:
        raise ValueError("expected (low, high) with 0 < low <= high <= 1")
    return span


Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""A range of positive numbers, both ends included."""

Share = Annotated[tuple[float, float], AfterValidator(_share)]
"""A range of shares of the grid, both ends included."""


def uniform(chance: Tensor, span: tuple[float, float]) -> Tensor:
    """Chance in [0, 1) to the range `span`, uniformly."""
    return span[0] + chance * (span[1] - span[0])


def log_uniform(chance: Tensor, span: tuple[float, float]) -> Tensor:
    """Chance in [0, 1) to the range `span`, its logarithm uniformly: 1/2 is as likely as 2."""
    return uniform(chance, (math.log(span[0]), math.log(span[1]))).exp()


def sides(area: Tensor, aspect: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Height and width, in whole patches, of rectangles of about this area and height / width that
    fit in the grid."""
    height = (area * aspect).sqrt().round().clamp(1, grid[0])
    width = (area / aspect).sqrt().round().clamp(1, grid[1])
    return height, width


def corner(chance: Tensor, side: Tensor, whole: int) -> Tensor:
    """First row (or column) of a rectangle, 0 to whole - side, *both* included: the last row and
    column are reachable."""
    return (chance * (whole - side + 1)).floor()


def positions(grid: Grid, device: torch.device) -> tuple[Float[Tensor, " rows"], Float[Tensor, " columns"]]:
    """The rows and the columns, counted from 0."""
    return torch.arange(grid[0], device=device).float(), torch.arange(grid[1], device=device).float()


def depth(
    top: Float[Tensor, "*b"],
    left: Float[Tensor, "*b"],
    height: Float[Tensor, "*b"],
    width: Float[Tensor, "*b"],
    grid: Grid,
) -> Float[Tensor, "*b rows columns"]:
    """How deep each patch lies in a rectangle: 1 for its outermost ring, 2 for the next; outside, 0
    for the first ring, -1..."""
    row, column = positions(grid, top.device)
    down, right = (top + height)[..., None], (left + width)[..., None]
    vertical = torch.minimum(row - top[..., None] + 1, down - row)
    horizontal = torch.minimum(column - left[..., None] + 1, right - column)
    return torch.minimum(vertical[..., :, None], horizontal[..., None, :])


def filled(
    down: Float[Tensor, "b rows"],
    across: Float[Tensor, "b columns"],
    height: Float[Tensor, " b"],
    width: Float[Tensor, " b"],
    count: int,
    chance: Float[Tensor, "two b"],
) -> Bool[Tensor, "b rows columns"]:
    """Exactly `count` patches of each rectangle, one contiguous piece: its last column is trimmed
    from one end.

    `down` and `across` count rows and columns from the rectangle's corner; patches with 0 <= down <
    height and 0 <= across < width are in it. Chance decides which column counts as last, and from
    which end it is trimmed.
    """
    height, width = height[:, None], width[:, None]
    in_rows, in_columns = (down >= 0) & (down < height), (across >= 0) & (across < width)
    down = torch.where(chance[0, :, None] < 0.5, down, height - 1 - down)
    across = torch.where(chance[1, :, None] < 0.5, across, width - 1 - across)
    turn = (across * height)[:, None, :] + down[:, :, None]
    return in_rows[:, :, None] & in_columns[:, None, :] & (turn < count)


def enclosing(count: int, aspect: Float[Tensor, " b"], grid: Grid) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Height and width of the smallest rectangles of about this aspect that hold `count` patches
    and fit in the grid."""
    height = (count * aspect).sqrt().round().clamp(math.ceil(count / grid[1]), min(grid[0], count))
    return height, (count / height).ceil()
