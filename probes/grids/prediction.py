"""Does a stored number choose the mask? Over tables of comparisons: how each number's order of the
cells agrees with that of their accuracy, and what choosing by it would cost.

* rank correlation (Spearman) over the cells of one table, with a permutation p;
* selection regret: accuracy of the best cell less that of the chosen one. Best and chosen cell are
  those of the *other* seeds, so the regret of a seed is free of the winner's curse and may be
  negative; intervals are over seeds (Student's t). Seeds that all agree say nothing of others:
  there is no interval then, and no verdict;
* the rival is a rule that needs no number: always the published mask, random 0.75.

Whether more of a number is better is learned on the tables of all other data sets and judged on the
data set left out, so nothing is fitted and judged on one. A number beats the rule where its regret
is below the rule's, over all data sets, by Holm's correction over all numbers. No torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.special import stdtr, stdtrit
from scipy.stats import rankdata

from lcmae.errors import InputError
from lcmae.probes.grids.racing import spearman
from lcmae.probes.grids.scales import ACCURACY_UNIT
from lcmae.probes.grids.statistics import ALPHA, MIN_CELLS
from lcmae.probes.grids.table import TABLE, by_cell, measures, read_table
from lcmae.probes.grids.verdict import Key, baseline_of

TARGET = "mean_knn"
PERMUTATIONS = 9999
TIMES = ("train_seconds", "probe_seconds", "calibrated_seconds", "train_gflop")
ROUNDING = 1e-9
"""Shares that differ by less are equal."""
SETTINGS = {"ratio": "masking ratio itself", "unit": "mask unit itself"}


@dataclass(frozen=True)
class Sample:
    """One table: cells whose runs have the target, and every number that all of them have."""

    name: str
    data: str
    keys: tuple[Key, ...]
    target: np.ndarray
    """[cells seeds], of the seeds that all cells have."""
    numbers: dict[str, np.ndarray]
    """[cells seeds] each."""
    rule: int
    """The published mask's cell, or the nearest to it."""

    @property
    def num_seeds(self) -> int:
        return self.target.shape[1]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; NaN where there is none."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    agreeing: int = 0
    """Seeds whose values are all equal, which leaves no interval; 0 where they differ."""

    def points(self) -> str:
        """A share in points: "6.0 (-4.5 to 16.4)", "0.0 (no interval: all 4 seeds agree)", or
        "-"."""
        if math.isnan(self.mean):
            return "-"
        middle = f"{100 * self.mean:.1f}"
        if self.agreeing:
            return f"{middle} (no interval: all {self.agreeing} seeds agree)"
        return middle if math.isnan(self.low) else f"{middle} ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True)
class Predictor:
    """What one stored number knows of the order of cells."""

    measure: str
    long_name: str
    correlation: tuple[float, ...]
    """By table; NaN where it lacks the number."""
    p_value: tuple[float, ...]
    regret: Estimate
    """Of choosing by it, on data sets that its direction was not learned on; over all tables."""
    over_rule: Estimate
    """Its regret less the rule's: below 0 it chooses better."""
    p_over_rule: float
    """Two-sided, by Holm's correction over all numbers; NaN where nothing can be judged."""

    @property
    def beats_rule(self) -> bool:
        """Whether it chooses better than the rule, beyond chance."""
        return self.over_rule.mean < 0 and self.p_over_rule < ALPHA

    @property
    def mean_correlation(self) -> float:
        """Over the tables that have it."""
        known = [value for value in self.correlation if math.isfinite(value)]
        return float(np.mean(known)) if known else math.nan


@dataclass(frozen=True)
class Predictions:
    """All numbers, best first; the rule's regret; and the number that other data sets would have
    chosen, judged on the one left out."""

    target: str
    tables: tuple[str, ...]
    data: tuple[str, ...]
    cells: tuple[int, ...]
    seeds: tuple[int, ...]
    predictors: tuple[Predictor, ...]
    rule: Estimate
    chosen: tuple[str, ...]
    """By data set: the number with the strongest mean rank correlation on the others."""
    of_chosen: Estimate
    skipped: tuple[str, ...]

    def sentence(self) -> str:
        """The answer."""
        if len(set(self.data)) < 2:
            return (
                f"One data set ({self.data[0]}): correlations are shown, but a choice cannot be tested on the data where it "
                "was learned. Compare on a second data set."
            )
        best = [one for one in self.predictors if one.beats_rule]
        rule = f'"always random 0.75" (regret {_points(self.rule)})'
        if not best:
            known = [one for one in self.predictors if math.isfinite(one.regret.mean)]
            others = len(self.predictors) - len(known)
            left_out = f" ({others} more stand in one data set's tables alone)" if others else ""
            return (
                f"Nothing that is stored beats the rule {rule}: of {len(known)} numbers{left_out} none chooses better on a "
                "data set that it was not tuned on, beyond chance."
            )
        names = ", ".join(f"{one.measure} (regret {_points(one.regret)})" for one in best[:3])
        more = f" and {len(best) - 3} more" if len(best) > 3 else ""
        return f"Better than the rule {rule}: {names}{more}."


def _points(value: Estimate) -> str:
    middle, _, rest = value.points().partition(" (")
    return f"{middle} points" + (f", {rest.removesuffix(')')}" if rest else "")


def tables_below(folder: Path) -> list[Path]:
    """Tables of comparisons at or below a folder, three folders deep. `InputError` where there is
    none."""
    found = [file for depth in ("", "*/", "*/*/", "*/*/*/") for file in sorted(folder.glob(f"{depth}{TABLE}"))]
    if not found:
        raise InputError(f"expected comparisons below {folder}, found none: `lcmae compare` makes one")
    return found


def predict(folder: Path, target: str = TARGET, seed: int = 0) -> Predictions:
    """What the tables below a folder say. `InputError` where none has at least four cells with two
    seeds of the target."""
    samples, skipped, names = [], [], {}
    for file in tables_below(folder):
        table = read_table(file)
        found = sample_of(table, str(file.parent.relative_to(folder)), target)
        if isinstance(found, str):
            skipped.append(found)
            continue
        samples.append(found)
        names |= {name: str(table[name].attrs["long_name"]) for name in found.numbers if name in table}
    if not samples:
        raise InputError(
            f"expected a comparison of at least {MIN_CELLS} cells with two seeds of {target}, got {'; '.join(skipped)}"
        )
    return judged(samples, {**names, **SETTINGS}, target, tuple(skipped), seed)


def sample_of(table: xr.Dataset, name: str, target: str = TARGET) -> Sample | str:
    """One table's cells; or why it cannot be used."""
    name = name if name not in ("", ".") else "here"
    if target not in table:
        return f"{name} has no {target}"
    runs = by_cell(table, target)
    seeds = sorted(set.intersection(*(set(values) for values in runs.values()))) if runs else []
    if len(runs) < MIN_CELLS or len(seeds) < 2:
        return f"{name} has {len(runs)} cells with {len(seeds)} common seeds"
    keys = list(runs)

    def values(measure: str) -> np.ndarray | None:
        found = by_cell(table, measure)
        rows = [[found.get(key, {}).get(seed, math.nan) for seed in seeds] for key in keys]
        known = np.array(rows, dtype=float)
        return known if np.isfinite(known).all() else None

    numbers = {}
    for measure in measures(table):
        is_accuracy = table[measure].attrs.get("units") == ACCURACY_UNIT
        if measure in TIMES or is_accuracy or (known := values(measure)) is None:
            continue
        if np.ptp(known.mean(1)) > 0:
            numbers[measure] = known
    for column, position in (("ratio", 2), ("unit", 3)):
        own = np.array([1.0 if key[position] is None else float(key[position]) for key in keys])
        if np.ptp(own) > 0:
            numbers[column] = np.repeat(own[:, None], len(seeds), axis=1)
    known = values(target)
    assert known is not None
    data = next(str(value) for value in table["data"].values if value)
    return Sample(name, data, tuple(keys), known, numbers, baseline_of(keys))


def judged(
    samples: Sequence[Sample],
    names: dict[str, str],
    target: str = TARGET,
    skipped: tuple[str, ...] = (),
    seed: int = 0,
) -> Predictions:
    """Correlations in every table, and regrets on data sets left out."""
    every = list(dict.fromkeys(name for sample in samples for name in sample.numbers))
    rho = {
        name: [
            spearman(sample.numbers[name].mean(1), sample.target.mean(1)) if name in sample.numbers else math.nan
            for sample in samples
        ]
        for name in every
    }
    sets = list(dict.fromkeys(sample.data for sample in samples))
    rule = [regrets(sample, None) for sample in samples]
    predictors, raw = [], {}
    for name in every:
        own, paired = [], []
        for sample, of_rule in zip(samples, rule, strict=True):
            direction = _direction(rho[name], samples, sample.data)
            if name in sample.numbers and direction:
                of_number = regrets(sample, direction * sample.numbers[name])
                own.append(of_number)
                paired.append(of_number - of_rule)
        over, raw[name] = _mean(paired)
        p_values = tuple(
            permutation_p(sample.numbers[name].mean(1), sample.target.mean(1), seed)
            if name in sample.numbers
            else math.nan
            for sample in samples
        )
        predictors.append(
            Predictor(name, names.get(name, name), tuple(rho[name]), p_values, _mean(own)[0], over, math.nan)
        )
    holm = _holm(raw)
    predictors = [
        Predictor(
            one.measure, one.long_name, one.correlation, one.p_value, one.regret, one.over_rule, holm[one.measure]
        )
        for one in predictors
    ]
    chosen, of_chosen = [], []
    for data in sets if len(sets) > 1 else ():
        name = _strongest(rho, samples, data)
        chosen.append(name)
        direction = _direction(rho[name], samples, data)
        of_chosen += [
            regrets(sample, direction * sample.numbers[name])
            for sample in samples
            if sample.data == data and name in sample.numbers
        ]
    return Predictions(
        target=target,
        tables=tuple(sample.name for sample in samples),
        data=tuple(sample.data for sample in samples),
        cells=tuple(len(sample.keys) for sample in samples),
        seeds=tuple(sample.num_seeds for sample in samples),
        predictors=tuple(sorted(predictors, key=_order)),
        rule=_mean(rule)[0],
        chosen=tuple(chosen),
        of_chosen=_mean(of_chosen)[0],
        skipped=skipped,
    )


def _order(one: Predictor) -> tuple[float, float]:
    strength = -abs(one.mean_correlation) if math.isfinite(one.mean_correlation) else 0.0
    return (one.regret.mean if math.isfinite(one.regret.mean) else math.inf, strength)


def regrets(sample: Sample, score: np.ndarray | None) -> np.ndarray:
    """Regret of each seed [seeds]: the target of the cell that is best in the other seeds, less
    that of the cell with the highest score there; None chooses the rule's cell."""
    found = []
    for seed in range(sample.num_seeds):
        others = np.arange(sample.num_seeds) != seed
        best = int(sample.target[:, others].mean(1).argmax())
        chosen = sample.rule if score is None else int(score[:, others].mean(1).argmax())
        found.append(float(sample.target[best, seed] - sample.target[chosen, seed]))
    return np.array(found)


def permutation_p(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of a rank correlation, from 9,999 orders of the cells and the one at hand; NaN
    where there is no correlation."""
    own = spearman(first, second)
    if math.isnan(own):
        return math.nan
    one, other = (rankdata(values) - (len(values) + 1) / 2 for values in (first, second))
    rng = np.random.default_rng([seed, len(first)])
    orders = rng.permuted(np.tile(one, (PERMUTATIONS, 1)), axis=1)
    drawn = orders @ other / math.sqrt(float(one @ one) * float(other @ other))
    return float((1 + (abs(drawn) >= abs(own) - 1e-12).sum()) / (1 + PERMUTATIONS))


def _direction(rho: Sequence[float], samples: Sequence[Sample], left_out: str) -> int:
    """1 where more of the number went with a higher target on the other data sets, -1 where less
    did; 0 where they do not say."""
    known = [
        value for value, sample in zip(rho, samples, strict=True) if sample.data != left_out and math.isfinite(value)
    ]
    return int(np.sign(np.mean(known))) if known else 0


def _strongest(rho: dict[str, list[float]], samples: Sequence[Sample], left_out: str) -> str:
    strength = {}
    for name, values in rho.items():
        known = [
            value
            for value, sample in zip(values, samples, strict=True)
            if sample.data != left_out and math.isfinite(value)
        ]
        strength[name] = abs(float(np.mean(known))) if known else -1.0
    return max(strength, key=strength.__getitem__)


def _mean(parts: Sequence[np.ndarray]) -> tuple[Estimate, float]:
    """The mean over tables of the means over seeds, its 95 % interval over seeds (Welch and
    Satterthwaite), and the p value of 0.

    A table whose seeds agree has the largest variance of the others. Where the seeds of every table
    agree there is no interval, and no p but for values that are all 0.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return Estimate(), math.nan
    mean = float(np.mean([part.mean() for part in parts]))
    if any(len(part) < 2 for part in parts):
        return Estimate(mean), math.nan
    variances = [0.0 if np.ptp(part) < ROUNDING else float(part.var(ddof=1)) for part in parts]
    if not any(variances):
        is_zero = all(abs(part).max() < ROUNDING for part in parts)
        return Estimate(mean, agreeing=sum(map(len, parts))), 1.0 if is_zero else math.nan
    each = [(own or max(variances)) / len(part) for own, part in zip(variances, parts, strict=True)]
    freedom = sum(each) ** 2 / sum(own**2 / (len(part) - 1) for own, part in zip(each, parts, strict=True))
    error = math.sqrt(sum(each)) / len(parts)
    reach = float(stdtrit(freedom, 1 - ALPHA / 2)) * error
    return Estimate(mean, mean - reach, mean + reach), 2 * float(stdtr(freedom, -abs(mean) / error))


def _holm(raw: dict[str, float]) -> dict[str, float]:
    known = sorted((name for name in raw if math.isfinite(raw[name])), key=raw.__getitem__)
    found, worst = dict.fromkeys(raw, math.nan), 0.0
    for rank, name in enumerate(known):
        worst = max(worst, min(1.0, (len(known) - rank) * raw[name]))
        found[name] = worst
    return found
