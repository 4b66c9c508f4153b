"""At which step did each stored number make half of its change? Numbers in, steps out; no torch.

lcmae's own definition: with v(s) the value at the first and v(t) at the last stored step, the first
step at which v has moved by half of v(t) - v(s), between stored steps along a straight line. The
interval is that of the same crossing when each value is moved at random, with 95 % within its own
interval (`lcmae.probes.statistics.intervals`): errors of different steps are taken as independent,
which is too wide where all steps saw the same images. A number whose whole change is within its
95 % interval has no such step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lcmae.probes.statistics.intervals import NORMAL

DRAWS = 500
LEAST_CROSSED = 0.5
"""Share of the draws that must cross for an interval to be given."""


@dataclass(frozen=True)
class Half:
    """When half of the change was made; NaN where the number did not change beyond its error."""

    step: float
    low: float
    high: float
    change: float
    """Last value less first."""

    first: float


NEVER = Half(math.nan, math.nan, math.nan, math.nan, math.nan)


def half_change(
    steps: Sequence[int] | Sequence[float], values: Sequence[float], reaches: Sequence[float] | None = None
) -> Half:
    """When these values made half of their change; `reaches` are halves of their 95 % intervals
    (NaN: not known). Steps rise."""
    at, number = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    reach = np.full(len(at), np.nan) if reaches is None else np.asarray(reaches, dtype=float)
    known = np.isfinite(number)
    at, number, reach = at[known], number[known], reach[known]
    if len(at) < 2:
        return NEVER
    change = float(number[-1] - number[0])
    spread = math.hypot(*np.nan_to_num(reach[[0, -1]]))
    if change == 0 or abs(change) <= spread:
        return Half(math.nan, math.nan, math.nan, change, float(number[0]))
    step = float(_crossings(at, number[None])[0])
    if not np.isfinite(reach).all() or not reach.any():
        return Half(step, math.nan, math.nan, change, float(number[0]))
    rng = np.random.default_rng(0)
    moved = number + reach / NORMAL * rng.standard_normal((DRAWS, len(number)))
    # draws that change the other way did not happen
    found = _crossings(at, moved[(moved[:, -1] - moved[:, 0]) * change > 0])
    if len(found) < LEAST_CROSSED * DRAWS:
        return Half(step, math.nan, math.nan, change, float(number[0]))
    low, high = np.quantile(found, [0.025, 0.975])
    return Half(step, float(low), float(high), change, float(number[0]))


def _crossings(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each row of values [draws steps]."""
    rows = np.arange(len(values))
    share = (values - values[:, :1]) / (values[:, -1:] - values[:, :1])
    after = (share >= 0.5).argmax(1)
    low, high = share[rows, after - 1], share[rows, after]
    return steps[after - 1] + (0.5 - low) / (high - low) * (steps[after] - steps[after - 1])


def order(frame: pd.DataFrame) -> pd.DataFrame:
    """Of a table of numbers by `run`, `step`, `quantity` and `part` (with `value` and the ends of
    its interval): the step of half change of each number of each run, earliest first; numbers
    without one are left out."""
    rows: list[Mapping[str, object]] = []
    keys = ["run", "quantity", "part", "unit"]
    key: Any
    for key, group in frame.groupby(keys, sort=False):
        line = group.sort_values("step")
        reaches = (line["high (95 %)"] - line["low (95 %)"]) / 2
        found = half_change(line["step"].tolist(), line["value"].tolist(), reaches.tolist())
        if math.isfinite(found.step):
            half = {"step": found.step, "low": found.low, "high": found.high, "change": found.change}
            rows.append({**dict(zip(keys, key, strict=True)), **half})
    columns = [*keys, "step", "low", "high", "change"]
    return pd.DataFrame(rows, columns=columns).sort_values("step", kind="stable", ignore_index=True)
