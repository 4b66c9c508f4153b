"""What a comparison of runs concludes of one measure: its pictures, for the dashboard and for the
report."""

from collections.abc import Iterator

import xarray as xr

from lcmae.app.dashboard.page import Panel
from lcmae.app.figures import grid_verdict as figures
from lcmae.probes.grids.table import describe
from lcmae.probes.grids.verdict import Verdict, labelled, with_seconds


def panels(found: Verdict, table: xr.Dataset) -> Iterator[tuple[str, Panel]]:
    """Bands, cost, and what more seeds would decide, each with a name that stays."""
    cells = labelled(found)
    together = "Bands hold for all cells together (95 %, without seed effects that all cells share)"
    best = "; open points are ruled out as the best" if found.direction else ""
    yield (
        "bands",
        Panel(
            f"{found.long_name} with bands for all cells together",
            f"Means over seeds, by {found.scale}. {together}{best}.",
            figures.bands(cells),
        ),
    )
    priced = with_seconds(cells, table)
    if priced is not None and found.measure != "train_seconds":
        yield (
            "cost",
            Panel(
                "What it costs",
                "The same means against the seconds that a run's training took; equal pairs or FLOP are not equal seconds.",
                figures.cost(priced),
            ),
        )
    if len(found.cells) > 1:
        yield (
            "power",
            Panel(
                "What more seeds would decide",
                f"Further seeds of each cell and of {describe(found.baseline)} that would decide their difference, taken "
                "alone, with 80 % power, after shrinking the observed difference. An estimate: for one difference it is "
                "right within 40 %.",
                figures.power(cells),
            ),
        )
