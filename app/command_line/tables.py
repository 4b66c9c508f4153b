"""Tables in the terminal, by rich: as wide as they need where output goes to a file, fitted where
it is a screen."""

import math
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, note: str | None = None) -> None:
    """Print rows of text under a header; the first column to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", caption=note, caption_justify="left")
    for column, name in enumerate(header):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=column > 0)
    for row in rows:
        table.add_row(*map(Text, row))  # as text: square brackets are not markup here
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def number(value: float, sem: float = math.nan, digits: int = 4) -> str:
    """A number, with its standard error where it has one."""
    if math.isnan(value):
        return "-"
    if math.isnan(sem):
        return f"{value:.{digits}g}"
    return f"{value:.{digits}g} ± {sem:.0f}" if sem >= 9.5 else f"{value:.{digits}g} ± {sem:.1g}"
