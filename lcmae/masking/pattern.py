"""Regular patterns: checkerboards and stripes, for tests, receptive fields and as the extremes of
regularity."""

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking.base import MaskStrategy, chance
from lcmae.patches import Grid
from lcmae.shapes import Float


class Checkerboard(MaskStrategy):
    """The squares of a checkerboard, one colour hidden (a regular pattern; no paper's training
    mask).

    In a picture: at ratio 0.5 and cell 1 every hidden patch has only visible neighbours and the
    reverse. At other ratios the rest is made up by chance: above 0.5 from the other colour, below
    0.5 fewer of the hidden colour.
    """

    kind: Literal["checkerboard"] = "checkerboard"

    ratio: float = Field(default=0.5, gt=0, lt=1)
    """Masking ratio: the share of patches that is hidden, between 0 and 1, both excluded."""

    cell: int = Field(default=1, ge=1)
    """Side of a square of the board, in patches."""

    phase: Literal[0, 1] | None = None
    """Whether the square at the top left is visible (0) or hidden (1); by default drawn for each
    image."""

    def check(self, grid: Grid) -> None:
        super().check(grid)
        if self.cell >= max(grid):
            raise InputError(
                f"expected squares of at most {max(grid) - 1} patches on a {grid[0]}x{grid[1]} grid, got {self.cell}"
            )

    def is_uniform(self, grid: Grid) -> bool:
        dark = int(self._board(grid, torch.device("cpu")).sum())
        return self.phase is None and 2 * dark == grid[0] * grid[1]

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        phase = (chance((num_images,), rng) < 0.5).long() if self.phase is None else self.phase
        board = (self._board(grid, rng.device) + torch.as_tensor(phase, device=rng.device)[..., None, None]) % 2
        board = board.expand(num_images, *grid)
        return rearrange(board, "b r c -> b (r c)") + chance((num_images, grid[0] * grid[1]), rng)

    def _board(self, grid: Grid, device: torch.device) -> Tensor:
        row, column = (torch.arange(side, device=device) // self.cell for side in grid)
        return (row[:, None] + column) % 2


class Stripes(MaskStrategy):
    """Parallel bands of lines, hidden and visible in turns (a regular pattern; no paper's training
    mask).

    In a picture: a fence of rows, columns or diagonals; each period of lines has its visible lines
    together. At ratio 0.75 and period 4, one line in four is visible. Where the count is not a
    whole number of lines, chance decides within the lines at the edge of the bands.
    """

    kind: Literal["stripes"] = "stripes"

    direction: Literal["rows", "columns", "diagonals"] = "rows"
    """Along what the bands run; diagonals go up to the right."""

    period: int = Field(default=4, ge=2)
    """Lines from the start of one band to the start of the next, in patches."""

    phase: int | None = Field(default=None, ge=0)
    """Which line of a period the grid starts with, 0 to period - 1, 0 being the most visible; by
    default drawn for each image."""

    @model_validator(mode="after")
    def _phase_is_in_period(self) -> "Stripes":
        if self.phase is not None and self.phase >= self.period:
            raise ValueError(f"expected a phase of 0 to {self.period - 1}, got {self.phase}")
        return self

    def check(self, grid: Grid) -> None:
        super().check(grid)
        lines = self._num_lines(grid)
        if self.period > lines:
            raise InputError(
                f"expected a period of at most {lines} for {self.direction} of a {grid[0]}x{grid[1]} grid, "
                f"got {self.period}"
            )

    def is_uniform(self, grid: Grid) -> bool:
        along = {"rows": grid[:1], "columns": grid[1:], "diagonals": grid}[self.direction]
        return self.phase is None and any(side % self.period == 0 for side in along)

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        row, column = (torch.arange(side, device=rng.device) for side in grid)
        line = {
            "rows": row[:, None].expand(grid),
            "columns": column.expand(grid),
            "diagonals": row[:, None] + column,
        }[self.direction]
        phase = (chance((num_images,), rng) * self.period).long() if self.phase is None else self.phase
        turn = (line + torch.as_tensor(phase, device=rng.device)[..., None, None]) % self.period
        turn = turn.expand(num_images, *grid)
        return rearrange(turn, "b r c -> b (r c)") + chance((num_images, grid[0] * grid[1]), rng)

    def _num_lines(self, grid: Grid) -> int:
        return {"rows": grid[0], "columns": grid[1], "diagonals": grid[0] + grid[1] - 1}[self.direction]
