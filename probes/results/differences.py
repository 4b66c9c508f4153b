"""B minus A, number by number, with a 95 % interval: paired over the images where the results allow
it.

Both results must be of the same images under the same masks (all of
`lcmae.probes.results.conditions` but the checkpoint). Then

- *paired*: results keep means over G interleaved groups of the images
  (`lcmae.probes.statistics.running.RunningMean`). With n_g images in group g, N in all and d_g the
  difference of the group's means, the difference is d = sum n_g d_g / N, and s^2 = sum n_g (d_g -
  d)^2 / (G - 1) estimates the variance of one image's difference: the interval is d +- t(G - 1)
  s/sqrt(N). What both models find hard in an image cancels;
- *paired* by leaving out, where a number is no mean over images (consistency across images, offset,
  shares): results keep the estimates without each of G groups of images; the differences of these
  are a jackknife of the difference, with t(G - 1);
- *apart*, where neither is kept (ranks, jackknifed numbers) or conditions differ: the ends of
  the two intervals are combined as if the models were measured on different images (MOVER: Zou and
  Donner, 2008; for Wilson's intervals this is Newcombe's method 10). On the same images that is
  wider than need be where both find the same images hard.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from lcmae.probes.results.conditions import Condition, unlike
from lcmae.probes.results.metric_directions import NEITHER, better
from lcmae.probes.results.tables import Cell, cells
from lcmae.probes.statistics.intervals import student

COLUMNS = (
    "probe", "quantity", "part", "where", "A", "A low", "A high", "B", "B low", "B high", "B - A", "low", "high", "interval",
    "better", "says", "unit",
)  # fmt: skip


class Difference(NamedTuple):
    """B - A with the ends of its 95 % interval (NaN where there is none), and how it came about."""

    value: float
    low: float
    high: float
    how: str


def differing(a: xr.Dataset, b: xr.Dataset) -> list[str]:
    """What the two were not measured alike in; see `lcmae.probes.results.conditions`."""
    return unlike([Condition.of(a.attrs), Condition.of(b.attrs)])


def differences(probe: str, a: xr.Dataset, b: xr.Dataset) -> pd.DataFrame:
    """A row for each number that both results list in the same unit: `part` has its labels as they
    are stored, `where` the same in words."""
    alike = not differing(a, b)
    of_a = {(cell.variable, cell.beside, cell.part, cell.unit): cell for cell in cells(a)}
    rows = []
    for cell in cells(b):
        own = of_a.get((cell.variable, cell.beside, cell.part, cell.unit))
        if own is None or (math.isnan(own.value) and math.isnan(cell.value)):
            continue
        found = (paired(a, b, own, cell) or left_out(a, b, own, cell) if alike else None) or apart(own, cell)
        # a baseline beside the model describes the images: no checkpoint is better by it
        direction = NEITHER.direction if cell.beside else better(probe, cell.variable).direction
        ends = (own.value, own.low, own.high, cell.value, cell.low, cell.high, *found[:3])
        says = (found.how, direction, verdict(found, direction), cell.unit)
        rows.append((probe, cell.quantity, cell.part, cell.where, *ends, *says))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def paired(a: xr.Dataset, b: xr.Dataset, of_a: Cell, of_b: Cell) -> Difference | None:
    """By groups of the same images; None where a result keeps none for this number."""
    name = f"{of_b.variable}_groups"
    if name not in a or name not in b or a[name].attrs.get("num_images") != b[name].attrs.get("num_images"):
        return None
    first, second = (
        one[name].values[(slice(None), *cell.position)].astype(float) for one, cell in ((a, of_a), (b, of_b))
    )
    sizes = np.bincount(np.arange(int(a[name].attrs["num_images"])) % len(first), minlength=len(first))
    each, sizes = (second - first)[sizes > 0], sizes[sizes > 0]
    if len(each) < 2 or not np.isfinite(each).all():
        return None
    count = sizes.sum()
    value = float(sizes @ each / count)
    variance = float(sizes @ (each - value) ** 2 / (len(each) - 1))
    reach = student(len(each) - 1) * math.sqrt(variance / count)
    return Difference(value, value - reach, value + reach, f"paired, {count} images")


def left_out(a: xr.Dataset, b: xr.Dataset, of_a: Cell, of_b: Cell) -> Difference | None:
    """By estimates without each group of the same images (`lcmae.probes.statistics.jackknife`);
    None where a result keeps none for this number."""
    name = f"{of_b.variable}_without"
    if name not in a or name not in b:
        return None
    sizes = np.atleast_1d(np.asarray(a[name].attrs["sizes"], dtype=float))
    if not np.array_equal(sizes, np.atleast_1d(np.asarray(b[name].attrs["sizes"], dtype=float))):
        return None
    first, second = (
        one[name].values[(slice(None), *cell.position)].astype(float) for one, cell in ((a, of_a), (b, of_b))
    )
    each, value = second - first, of_b.value - of_a.value
    if len(each) < 2 or not np.isfinite(each).all():
        return None
    # Busing, Meijer and van der Leeden (1999), as in lcmae.probes.statistics.jackknife
    share = sizes.sum() / sizes
    pseudo = share * value - (share - 1) * each
    centre = len(each) * value - ((1 - 1 / share) * each).sum()
    reach = student(len(each) - 1) * math.sqrt(float(((pseudo - centre) ** 2 / (share - 1)).mean()))
    return Difference(value, value - reach, value + reach, f"paired, {sizes.sum():g} images in {len(each)} groups")


def apart(of_a: Cell, of_b: Cell) -> Difference:
    """By the two intervals alone."""
    value = of_b.value - of_a.value
    down = math.hypot(of_b.value - of_b.low, of_a.high - of_a.value)
    up = math.hypot(of_b.high - of_b.value, of_a.value - of_a.low)
    return Difference(value, value - down, value + up, "none stored" if math.isnan(down) else "apart")


def verdict(found: Difference, direction: str) -> str:
    """What the interval says: which one is better, or that the difference may be chance."""
    if found.value == 0:
        return "equal"  # a baseline of the data, mostly
    if math.isnan(found.low):
        return ""
    if found.low <= 0 <= found.high:
        return "not told apart"
    if direction == "neither":
        return "differ"
    return "B better" if (found.value > 0) == (direction == "higher") else "A better"
