"""What a grid of runs says of one measure, answer first: which cells may be the best, which differ
from the baseline, and what it would take to decide the rest. No torch.

The statistics are those of the whole grid (`lcmae.probes.grids.statistics`), on the measure's own
scale (`lcmae.probes.grids.scales`); what is shown is taken back from it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.grids.scales import ACCURACY_UNIT, Scale, scale_of
from lcmae.probes.grids.statistics import ALPHA, Contrast, Grid
from lcmae.probes.grids.table import by_cell, describe
from lcmae.probes.results.metric_directions import better
from lcmae.probes.statistics.intervals import NORMAL

Key = tuple[Any, ...]
"""Objective, mask, ratio and mask unit of a cell."""

Word = Literal["baseline", "higher", "lower", "undecided", "no error"]

PUBLISHED: Key = ("mae", "random", 0.75, 1)
"""The published mask of MAE, the baseline where it is among the cells."""

FEW_SEEDS, ADVISED_SEEDS = 3, 5
"""Below `FEW_SEEDS` verdicts are provisional; `ADVISED_SEEDS` are the advice."""

MOST_NAMES = 4
"""Cells that a sentence names before it counts the others."""

EARLY = 5
"""Further seeds that a sentence offers first."""


@dataclass(frozen=True)
class CellVerdict:
    """One cell: its mean over seeds with a 95 % interval, and how it stands to the baseline. Values
    in the measure's own unit; intervals NaN where the cell's variance is not known."""

    key: Key
    num_seeds: int
    mean: float
    low: float
    high: float
    together_low: float
    """Ends of its interval where those of all cells hold together with 95 % (Bonferroni)."""
    together_high: float
    change: float
    """Difference to the baseline; the ratio of the two for measures on a logarithmic scale."""
    change_low: float
    change_high: float
    p_value: float
    """By Holm's correction over all differences to the baseline; NaN for the baseline."""
    word: Word
    may_be_best: bool | None
    """None for measures that have no better end."""
    seeds_needed: int | None
    """Further seeds that would decide the difference to the baseline with 80 % power; None where it
    is decided, or where more than 40 would not."""


@dataclass(frozen=True)
class Verdict:
    """What the grid says of one measure; cells best first, or largest first without a direction."""

    measure: str
    long_name: str
    units: str
    scale: str
    direction: int
    """1 where larger is better, -1 where smaller is, 0 where neither is."""
    baseline: Key
    cells: tuple[CellVerdict, ...]
    baseline_is_noisiest: bool
    test_set_error: float
    """Standard error that other test images would add to a difference of accuracies; 0 for other
    measures."""
    minutes_a_seed: float
    """Compute of one more seed of every cell, in minutes of one worker; NaN where no run says its
    time."""

    @property
    def test_set_reach(self) -> float:
        """Half of the 95 % interval that other test images would add: binomial, so normal
        (`lcmae.probes.grids.scales.Scale.test_set_error`)."""
        return NORMAL * self.test_set_error

    @property
    def best(self) -> list[Key]:
        """Cells that may be the best."""
        return [cell.key for cell in self.cells if cell.may_be_best]

    @property
    def is_provisional(self) -> bool:
        """Whether some cell has fewer than three seeds."""
        return min(cell.num_seeds for cell in self.cells) < FEW_SEEDS

    def name(self, cell: CellVerdict) -> str:
        """A cell by the settings that vary over the grid: "random 0.5"."""
        return _short(cell.key, self.cells)

    def sentence(self) -> str:
        """The answer in one sentence: first of all cells, then each against the baseline."""
        parts = []
        rest = [cell.key for cell in self.cells if cell.may_be_best is False]
        if self.direction and rest:
            parts += [f"{_names(self.best, self.cells)} may be the best", f"{_names(rest, self.cells)} {_is(rest)} not"]
        elif self.direction and len(self.cells) > 1:
            parts.append("no cell is ruled out as the best")
        if beside := self._beside_baseline():
            parts.append(f"against {_short(self.baseline, self.cells)}, the baseline, {beside}")
        text = "; ".join(parts) or "one cell, nothing to compare"
        return f"{text[0].upper()}{text[1:]}."

    def _beside_baseline(self) -> str:
        """ "2 are better, 1 is worse and 3 are undecided: 2 more seeds would ..."; nothing without
        other cells, or with one seed."""
        counts = []
        for word in ("higher", "lower"):
            found = [cell for cell in self.cells if cell.word == word]
            if found:
                improves = (word == "higher") == (self.direction > 0)
                verb = word if not self.direction else "better" if improves else "worse"
                counts.append(f"{len(found)} {_is(found)} {verb}")
        open_cells = [cell for cell in self.cells if cell.word == "undecided"]
        if open_cells:
            counts.append(f"{len(open_cells)} {_is(open_cells)} undecided{self._offer(open_cells)}")
        return counts[0] if len(counts) == 1 else " and ".join(filter(None, [", ".join(counts[:-1]), *counts[-1:]]))

    def _offer(self, cells: Sequence[CellVerdict]) -> str:
        needs = sorted(cell.seeds_needed for cell in cells if cell.seeds_needed)
        if not needs:
            return ""
        early = [need for need in needs if need <= EARLY]
        more = early[-1] if early else needs[0]
        decided = sum(need <= more for need in needs)
        cost = "" if math.isnan(self.minutes_a_seed) else f", about {_minutes(more * self.minutes_a_seed)}"
        return f": {more} more {'seed' if more == 1 else 'seeds'} would probably decide {decided} of these{cost}"

    def notes(self) -> list[str]:
        """What a reader must know beside the sentence, a line each."""
        lines = []
        seeds = min(cell.num_seeds for cell in self.cells)
        if seeds < 2:
            lines.append(f"One seed says nothing about chance: take --seeds {ADVISED_SEEDS}.")
        elif self.is_provisional:
            lines.append(
                f"Provisional: {seeds} seeds are valid but nearly powerless; --seeds {ADVISED_SEEDS} is the advice."
            )
        if self.baseline_is_noisiest:
            lines.append("The baseline is the noisiest cell, so intervals of differences are wide: choose another one.")
        if self.test_set_error:  # of shares of test images alone
            lines.append(
                "Intervals are over seeds on these test images; other images would add up to "
                f"± {100 * self.test_set_reach:.2g} points to a difference (binomial, 95 %)."
            )
        return lines


def verdict(table: xr.Dataset, measure: str, baseline: Key | None = None) -> Verdict:
    """What the done runs of a table say of one of its measures. `InputError` where none of them has
    it, or where the baseline is no cell."""
    keys, grid, scale = grid_of(table, measure)
    base = baseline_of(keys, baseline)
    units = str(table[measure].attrs.get("units", "1"))
    direction = direction_of(measure, units)
    contrasts = {found.cell: found for found in grid.to_baseline(base)}
    best = set(grid.may_be_best(direction, baseline=base)) if direction else None
    order = sorted(range(len(keys)), key=lambda cell: -(direction or 1) * grid.mean[cell])
    variance = grid.variance
    return Verdict(
        measure=measure,
        long_name=str(table[measure].attrs.get("long_name", measure)),
        units=units,
        scale=scale.name,
        direction=direction,
        baseline=keys[base],
        cells=tuple(_cell(cell, keys[cell], grid, scale, base, contrasts.get(cell), best) for cell in order),
        baseline_is_noisiest=bool(
            len(keys) > 2 and np.isfinite(variance[base]) and (variance < variance[base]).sum() == len(keys) - 1
        ),
        test_set_error=scale.test_set_error(float(np.nanmean(scale.back(grid.values)))),
        minutes_a_seed=_minutes_a_seed(table),
    )


def labelled(found: Verdict) -> xr.Dataset:
    """The same as labelled numbers along `cell`, best first: what pictures are drawn of."""
    about = {"long_name": found.long_name, "units": found.units}
    numbers = {
        "mean": f"{found.long_name}, mean over seeds",
        "low": "lower end of its 95 % interval over seeds",
        "high": "upper end of its 95 % interval over seeds",
        "together_low": "lower end of its interval, for all cells together",
        "together_high": "upper end of its interval, for all cells together",
    }
    variables = {
        name: xr.Variable(
            "cell", np.array([getattr(cell, name) for cell in found.cells]), {**about, "long_name": words}
        )
        for name, words in numbers.items()
    }
    ranks = [math.nan if cell.may_be_best is None else float(cell.may_be_best) for cell in found.cells]
    needed = [math.nan if cell.seeds_needed is None else float(cell.seeds_needed) for cell in found.cells]
    plain = {"long_name": "may be the best (1) or not (0)", "units": "1"}
    variables |= {
        "may_be_best": xr.Variable("cell", np.array(ranks), plain),
        "num_seeds": xr.Variable(
            "cell", np.array([cell.num_seeds for cell in found.cells]), {"long_name": "seeds", "units": "runs"}
        ),
        "seeds_needed": xr.Variable(
            "cell",
            np.array(needed),
            {"long_name": "further seeds that would decide the difference to the baseline", "units": "runs"},
        ),
        "verdict": xr.Variable(
            "cell",
            np.array([cell.word for cell in found.cells], dtype=object),
            {"long_name": f"difference to {describe(found.baseline)}", "units": "1"},
        ),
    }
    coords = {
        "name": ("cell", np.array([_short(cell.key, found.cells) for cell in found.cells], dtype=object)),
        **{
            part: ("cell", np.array([cell.key[column] for cell in found.cells], dtype=object))
            for column, part in enumerate(("objective", "mask"))
        },
        "ratio": (
            "cell",
            np.array([cell.key[2] for cell in found.cells]),
            {"long_name": "masking ratio", "units": "1"},
        ),
        "unit": (
            "cell",
            np.array([math.nan if cell.key[3] is None else float(cell.key[3]) for cell in found.cells]),
            {"long_name": "side of the mask unit", "units": "patches"},
        ),
    }
    return xr.Dataset(variables, coords, {"measure": found.measure, "direction": found.direction, **about})


def with_seconds(cells: xr.Dataset, table: xr.Dataset) -> xr.Dataset | None:
    """`labelled` numbers with the mean seconds of training of a cell's runs; None where a cell does
    not say."""
    seconds = by_cell(table, "train_seconds")
    keys = zip(*(cells[name].values.tolist() for name in ("objective", "mask", "ratio", "unit")), strict=True)
    found = [seconds.get((*key[:3], None if math.isnan(key[3]) else int(key[3]))) for key in keys]
    if not all(found):
        return None
    values = np.array([float(np.mean(list(one.values()))) for one in found if one])
    about = {"long_name": "training, mean of a run", "units": "s"}
    return cells.assign(seconds=xr.Variable("cell", values, about))


def grid_of(table: xr.Dataset, measure: str) -> tuple[list[Key], Grid, Scale]:
    """The cells of the done runs, their values on the measure's scale, and the scale. `InputError`
    where no run has the measure."""
    runs = by_cell(table, measure) if measure in table else {}
    if not runs:
        raise InputError(f"expected runs with {measure}, got none")
    keys = list(runs)
    seeds = sorted({seed for values in runs.values() for seed in values})
    raw = np.array([[runs[key].get(seed, math.nan) for seed in seeds] for key in keys])
    units = str(table[measure].attrs.get("units", "1"))
    scale = scale_of(raw, units, _num_images(table) if units == ACCURACY_UNIT else None)
    return keys, Grid(scale.forward(raw), step=scale.step(raw)), scale


def baseline_of(keys: Sequence[Key], wanted: Key | None = None) -> int:
    """Place of the baseline among the cells: the one that is asked for, else the nearest to the
    published mask: MAE before other objectives, random masks before others, a ratio near 0.75, a
    unit of one patch. What is equally near is chosen by its name, never by its place."""
    if wanted is not None:
        if wanted in keys:
            return list(keys).index(wanted)
        known = "; ".join(map(describe, keys))
        raise InputError(f"expected a baseline out of {known}, got {describe(wanted)}")

    def distance(key: Key) -> tuple[bool, bool, bool, float, str]:
        objective, mask, ratio, unit = key
        away = round(abs(ratio - PUBLISHED[2]), 9)
        return objective != "mae", mask != "random", unit not in (None, 1), away, describe(key)

    return min(range(len(keys)), key=lambda cell: distance(keys[cell]))


def parse_baseline(text: str, keys: Sequence[Key]) -> Key:
    """A cell by its words, as tables print them ("mae, random, 0.75", or a part that only one cell
    has: "random, 0.5")."""
    words = [word.strip() for word in text.split(",")]
    found = [key for key in keys if set(words) <= set(describe(key).split(", "))]
    exact = [key for key in found if describe(key) == ", ".join(words)]
    plain = [key for key in found if key[3] in (None, 1)]
    for candidates in (exact, found, plain):
        if len(candidates) == 1:
            return candidates[0]
    known = "; ".join(map(describe, found or keys))
    raise InputError(f"expected --baseline with the words of one cell ({known}), got {text!r}")


def direction_of(measure: str, units: str) -> int:
    """1 where larger is better, -1 where smaller is, 0 where neither end is."""
    if units == ACCURACY_UNIT:
        return 1
    probe, _, variable = measure.partition("[")[0].partition(".")
    return {"higher": 1, "lower": -1, "neither": 0}[better(probe, variable).direction]


def _cell(
    cell: int, key: Key, grid: Grid, scale: Scale, base: int, contrast: Contrast | None, best: set[int] | None
) -> CellVerdict:
    from scipy.special import stdtrit

    freedom = grid.freedom(cell, cell)
    error = math.sqrt(grid.variance[cell] / grid.num_seeds[cell]) if freedom > 0 else math.nan
    reach = float(stdtrit(freedom, 1 - ALPHA / 2)) * error if math.isfinite(error) else math.nan
    mean, low, high = (float(scale.back(np.array(value))) for value in _around(grid.mean[cell], reach))
    wide = float(stdtrit(freedom, 1 - ALPHA / 2 / grid.num_cells)) * error if math.isfinite(error) else math.nan
    _, together_low, together_high = (float(scale.back(np.array(value))) for value in _around(grid.mean[cell], wide))
    change, change_low, change_high = _change(scale, grid, cell, base, contrast)
    decided = contrast is not None and contrast.is_decided
    word: Word = (
        "baseline"
        if contrast is None
        else "no error"
        if not math.isfinite(contrast.half_width)
        else "undecided"
        if not decided
        else "higher"
        if contrast.difference > 0
        else "lower"
    )
    return CellVerdict(
        key=key,
        num_seeds=int(grid.num_seeds[cell]),
        mean=mean,
        low=low,
        high=high,
        together_low=together_low,
        together_high=together_high,
        change=change,
        change_low=change_low,
        change_high=change_high,
        p_value=math.nan if contrast is None else contrast.p_value,
        word=word,
        may_be_best=None if best is None else cell in best,
        seeds_needed=None if contrast is None or decided else grid.seeds_needed(cell, base) or None,
    )


def _change(scale: Scale, grid: Grid, cell: int, base: int, contrast: Contrast | None) -> tuple[float, float, float]:
    """The difference in the measure's unit with its interval (alone): the scale's difference laid
    on the baseline's mean; for logarithms the ratio."""
    if contrast is None:
        return (1.0, 1.0, 1.0) if scale.name == "logarithm" else (0.0, 0.0, 0.0)
    ends = _around(contrast.difference, contrast.half_width)
    if scale.name == "logarithm":
        value, low, high = (float(np.exp(end)) for end in ends)
        return value, low, high
    start = grid.mean[base]
    at = float(scale.back(np.array(start)))
    value, low, high = (float(scale.back(np.array(start + end))) - at for end in ends)
    return value, low, high


def _around(value: float, half: float) -> tuple[float, float, float]:
    return value, value - half, value + half


def _num_images(table: xr.Dataset) -> int | None:
    if "num_test_images" not in table:
        return None
    known = table["num_test_images"].values
    known = known[np.isfinite(known)]
    return int(known.min()) if len(known) else None


def _minutes_a_seed(table: xr.Dataset) -> float:
    seconds = by_cell(table, "train_seconds")
    probing = by_cell(table, "probe_seconds")
    totals = [float(np.mean(list(values.values()))) for values in (*seconds.values(), *probing.values())]
    return sum(totals) / 60 if totals else math.nan


def _varying(cells: Sequence[CellVerdict]) -> list[int]:
    return [part for part in range(4) if len({cell.key[part] for cell in cells}) > 1] or [1, 2]


def _short(key: Key, cells: Sequence[CellVerdict]) -> str:
    """A cell by the settings that vary over the grid: "random 0.5"."""
    words: Mapping[int, str] = {
        0: str(key[0]),
        1: str(key[1]),
        2: f"{key[2]:g}",
        3: "" if key[3] in (None, 1) else f"unit {key[3]}",
    }
    return " ".join(words[part] for part in _varying(cells) if words[part]) or describe(key)


def _names(keys: Sequence[Key], cells: Sequence[CellVerdict]) -> str:
    names = [_short(key, cells) for key in keys]
    if len(names) > MOST_NAMES:
        names = [*names[: MOST_NAMES - 1], f"{len(names) - MOST_NAMES + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(cells: Sequence[object]) -> str:
    return "is" if len(cells) == 1 else "are"


def _minutes(minutes: float) -> str:
    if minutes < 1:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
