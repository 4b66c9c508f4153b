"""Tables in the terminal, by rich: as wide as they need where output goes to a file; on a screen
that is narrower, columns that do not fit stand in tables of their own below."""

import math
import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

FRAME = 3
"""What a column takes beside its text: a space on either side, and a line."""

LEAST = 160
"""Letters of a line in a file, at least: titles and notes are wrapped there."""


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, note: str | None = None) -> None:
    """Print rows of text under a header; the first column, which says what a row is, to the left,
    numbers to the right. Nothing is cut: a text that is too long for the screen is wrapped."""
    widths = [max(map(cell_len, column)) + FRAME for column in zip(header, *rows, strict=True)]
    screen = Console().width if sys.stdout.isatty() else None
    width = max(LEAST, sum(widths) + 1) if screen is None else screen
    parts = columns_that_fit(widths, width)
    for number, part in enumerate(parts):
        table = Table(
            title=f"{title}, continued" if number else title,
            title_justify="left",
            caption=note if number == len(parts) - 1 else None,
            caption_justify="left",
        )
        for column in part:
            if column == 0:  # gives way last
                table.add_column(header[0], overflow="fold", min_width=min(widths[0] - FRAME, width // 2))
            else:
                fits = widths[0] + widths[column] < width
                table.add_column(header[column], justify="right", overflow="fold", no_wrap=fits)
        for row in rows:
            table.add_row(*(Text(row[column]) for column in part))  # as text: square brackets are not markup here
        Console(width=width).print(table)


def columns_that_fit(widths: Sequence[int], width: int) -> list[list[int]]:
    """Columns of each table, by the letters that columns take: the first column stands in every
    one, with one other at least."""
    first, *others = range(len(widths))
    parts, taken = [[first]], widths[first]
    for column in others:
        if len(parts[-1]) > 1 and taken + widths[column] >= width:
            parts.append([first])
            taken = widths[first]
        parts[-1].append(column)
        taken += widths[column]
    return parts


def number(value: float, sem: float = math.nan, digits: int = 4) -> str:
    """A number, with its standard error where it has one."""
    if math.isnan(value):
        return "-"
    if math.isnan(sem):
        return f"{value:.{digits}g}"
    return f"{value:.{digits}g} ± {sem:.0f}" if sem >= 9.5 else f"{value:.{digits}g} ± {sem:.1g}"
