"""What a comparison of runs concludes of one measure: its pictures, for the dashboard and for the
report."""

from collections.abc import Iterator

import xarray as xr

from lcmae.app.dashboard.page import Panel
from lcmae.app.figures import grid_verdict as figures
from lcmae.app.figures.answers import Answer, Number
from lcmae.probes.grids.scales import ACCURACY_UNIT
from lcmae.probes.grids.verdict import CellVerdict, Verdict, labelled, with_seconds


def answer(found: Verdict) -> Answer:
    """The verdict's sentence; beside it the best mean, the baseline's, and the difference of the
    two as a verdict has it, where there is a better end."""
    best, base = found.cells[0], next(cell for cell in found.cells if cell.key == found.baseline)
    if not found.direction or len(found.cells) < 2:
        return Answer(found.sentence())
    tiles = [
        _mean(best, found).tile(
            f"{found.name(best)}, highest mean" if found.direction > 0 else f"{found.name(best)}, lowest mean"
        )
    ]
    if best is not base:
        tiles.append(_mean(base, found).tile(f"{found.name(base)}, the baseline"))
        change = (best.change, best.change_low, best.change_high)
        if found.scale == "logarithm":
            tiles.append(Number(*change).tile(f"{found.name(best)} as a multiple of it"))
        else:
            scale, unit = (100, "points") if found.units == ACCURACY_UNIT else (1, found.units)
            less = Number(*(scale * one for one in change), unit=unit)
            tiles.append(less.tile(f"{found.name(best)} less the baseline"))
    return Answer(found.sentence(), tuple(tiles))


def _mean(cell: CellVerdict, found: Verdict) -> Number:
    is_share = found.units == ACCURACY_UNIT
    return Number(cell.mean, cell.low, cell.high, "1" if is_share else found.units, is_share)


def capital(words: str) -> str:
    """As a heading: "Masked loss", and "kNN accuracy" as it is."""
    return words if words[1:2].isupper() else f"{words[:1].upper()}{words[1:]}"


def panels(found: Verdict, table: xr.Dataset) -> Iterator[tuple[str, Panel]]:
    """Bands, cost, and what more seeds would decide, each with a name that stays."""
    cells = labelled(found)
    together = "Bands hold for all cells together (95 %, without seed effects that all cells share)"
    best = "; open points are ruled out as the best" if found.direction else ""
    yield (
        "bands",
        Panel(
            f"{capital(found.long_name)}: bands for all cells together",
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
        base = next(cell for cell in found.cells if cell.key == found.baseline)
        yield (
            "power",
            Panel(
                "What more seeds would decide",
                f"Further seeds of each cell and of {found.name(base)} that would decide their difference, taken "
                "alone, with 80 % power, after shrinking the observed difference. An estimate: for one difference it is "
                "right within 40 %.",
                figures.power(cells),
            ),
        )
