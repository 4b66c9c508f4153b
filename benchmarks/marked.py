"""Tables that a command writes between two marks of a page of docs."""

import argparse
from collections.abc import Callable
from pathlib import Path


def write(description: str | None, table: Callable[[], str], begin: str, end: str) -> None:
    """A command's main: what `table` makes goes between the marks of the page `--out`, or is
    printed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a page with the two marks; by default the tables are printed")
    out = parser.parse_args().out
    if out is None:
        print(table())
        return
    before, opened, rest = out.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        parser.error(f"expected a page with {begin} and {end}, got {out}")
    out.write_text(f"{before}{begin}\n{table()}\n{end}{after}")
