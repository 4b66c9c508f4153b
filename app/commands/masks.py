"""`lcmae masks`: what every mask strategy is like, before any model; a table, samples in the
terminal, and one picture."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from rich.columns import Columns
from rich.console import Console
from rich.text import Text

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.tables import print_table
from lcmae.errors import InputError
from lcmae.settings import Settings

if TYPE_CHECKING:
    import numpy as np

HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
"""Two rows of patches (upper, lower; 1 is hidden) as one character."""

WIDEST = 40
"""Grids of more columns are not drawn in the terminal."""


class MasksArguments(Settings):
    """Draw every mask strategy that needs no checkpoint and measure its masks: a table, samples,
    one picture."""

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Masking ratio; strategies of a fixed ratio keep their own."""

    grid: tuple[int, int] = (14, 14)
    """Rows and columns of patches."""

    seed: int = Field(default=0, ge=0)
    """Decides the masks."""

    num_masks: int = Field(default=256, ge=1)
    """Masks of each strategy that are measured."""

    samples: int = Field(default=6, ge=1, le=64)
    """Masks of each strategy in the picture."""

    html: Path | None = None
    """File for the picture, self-contained HTML; masks.html by default."""

    png: Path | None = None
    """File for the picture as PNG; needs the package kaleido, and Chrome or Chromium."""


def run(arguments: Sequence[str]) -> int:
    """Draw, measure, show."""
    options = parse_arguments(MasksArguments, arguments, command="masks")
    if min(options.grid) < 1:
        raise InputError(f"expected a grid of at least one row and column, got {options.grid[0]} {options.grid[1]}")
    if options.html is not None and options.png is not None:
        raise InputError("expected one of --html FILE and --png FILE, got both")
    if options.png is not None:
        check_png()

    from lcmae.masking.diagnostics import diagnostics_table
    from lcmae.masking.gallery import draw, strategies

    usable, refused = strategies(options.ratio, options.grid)
    for kind, why in refused.items():
        print(f"lcmae masks: {kind} is left out: {why}", file=sys.stderr)
    if not usable:
        why = next(iter(refused.values()))
        raise InputError(f"expected a grid and a ratio that some strategy can draw, got none: {why}")
    table = diagnostics_table(usable.values(), options.grid, options.num_masks, options.seed)
    samples = draw(usable, options.grid, options.samples, options.seed)

    rows, columns = options.grid
    if columns <= WIDEST:
        print_gallery(samples)
    note = (
        f"{options.num_masks} masks each, seed {options.seed}, neighbours are the 4 that share a side. coverage: a patch's "
        "chance to be hidden; region: connected visible patches; boundary: hidden patches with a visible neighbour; "
        "distance: from a hidden patch to the nearest visible one; entropies: evenness of the coverage (1 is even), and bits "
        "per patch given its left and upper neighbours."
    )
    header = [name.replace(" (", "\n(") for name in table[0]]
    print_table(f"Masks on {rows}x{columns} patches", header, [_cells(row) for row in table], note=note)
    print(write_picture(samples, options))
    return 0


def print_gallery(samples: "Mapping[str, np.ndarray]") -> None:
    """Two samples of each strategy; a character is two patches, one above the other, and what is
    hidden is filled."""
    width = None if sys.stdout.isatty() else 120
    drawn = [Text(f"{name}\n{side_by_side(masks[:2])}\n") for name, masks in samples.items()]
    Console(width=width).print(Columns(drawn, padding=(0, 3)))


def side_by_side(masks: "np.ndarray") -> str:
    """Masks [mask rows columns] as lines of text."""
    lines = []
    for top in range(0, masks.shape[1], 2):
        parts = []
        for mask in masks:
            lower = mask[top + 1] if top + 1 < len(mask) else [False] * mask.shape[1]
            parts.append("".join(HALVES[int(a), int(b)] for a, b in zip(mask[top], lower, strict=True)))
        lines.append("│" + "│ │".join(parts) + "│")
    return "\n".join(lines)


def check_png() -> None:
    """`InputError` where the package that makes PNG is missing."""
    from importlib.util import find_spec

    if find_spec("kaleido") is None:
        raise InputError(
            "expected the package kaleido (and Chrome or Chromium) for --png, got none: "
            "`uv pip install kaleido`, or take --html FILE"
        )


def write_picture(samples: "Mapping[str, np.ndarray]", options: MasksArguments) -> Path:
    """The gallery as HTML or PNG; returns the file."""
    from lcmae.app.figures.masks import gallery
    from lcmae.runs.run import write_atomically

    figure = gallery(samples)
    if options.png is not None:
        try:
            picture = figure.to_image(format="png", scale=2)
        except Exception as error:  # kaleido has its own errors for a Chrome that is missing or does not start
            why = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"expected Chrome or Chromium for --png, got {type(error).__name__}: {why}; --html needs none"
            ) from error
        write_atomically(options.png, picture)
        return options.png
    path = options.html or Path("masks.html")
    write_atomically(path, figure.to_html(include_plotlyjs=True, full_html=True).encode())
    return path


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [value if isinstance(value, str) else f"{value:.3f}" for value in row.values()]
