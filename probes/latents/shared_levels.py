"""Where the shared latents lie, as labelled numbers: for one mask, and by mask unit and ratio.
Errors are over masks."""

import torch
import xarray as xr
from einops import rearrange

from lcmae.probes.latents.separator import Average, Levels
from lcmae.probes.statistics.variables import error_of, variable

WORDS = {
    "level": "mean level of the shared latents",
    "top": "highest level of the shared latents",
    "share": "share of a level's latents that are shared",
}
"""What is told of the shared latents, by name of the variable."""


def own_levels(levels: Levels) -> dict[str, xr.Variable]:
    """Where the shared latents lie under the probe's own mask; errors are over masks."""
    found: dict[str, xr.Variable] = {}
    for name, words in WORDS.items():
        average: Average = getattr(levels, name)
        dims = ("end", "level")[: average.mean.ndim]
        found[f"own_{name}"] = variable(dims, average.mean, f"{words}, own mask", sem_over="masks")
        found[f"own_{name}_sem"] = error_of(
            dims, average.sem, f"{words}, own mask", degrees=average.degrees_of_freedom, over="masks"
        )
    return found


def level_map(
    cells: dict[tuple[int, float], Levels], units: list[int], ratios: tuple[float, ...], num_levels: int
) -> dict[str, xr.Variable]:
    """The same by mask unit and ratio."""
    shapes = {"level": (2,), "top": (2,), "share": (2, num_levels)}
    found: dict[str, xr.Variable] = {}
    for name, shape in shapes.items():
        values = torch.full((2, len(units), len(ratios), *shape), torch.nan, dtype=torch.float64)
        for (unit, ratio), levels in cells.items():
            average: Average = getattr(levels, name)
            cell = units.index(unit), ratios.index(ratio)
            values[0][cell], values[1][cell] = average.mean, average.sem
        values = rearrange(values, "part unit ratio end ... -> part end unit ratio ...")
        dims = ("end", "unit", "ratio", "level")[: values.ndim - 1]
        found[f"predicted_{name}"] = variable(dims, values[0], WORDS[name], sem_over="masks")
        degrees = min((getattr(levels, name).degrees_of_freedom for levels in cells.values()), default=0)
        found[f"predicted_{name}_sem"] = error_of(dims, values[1], WORDS[name], degrees=degrees, over="masks")
    return found
