"""Design rules of masked autoencoders as differences between cells of a grid, each with the sign
that its source gives it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from lcmae.probes.grids.statistics import ALPHA, Grid
from lcmae.probes.grids.verdict import Key, grid_of

Weights = tuple[tuple[float, str, float, int], ...]
"""Weight, mask, ratio and unit of each cell of a difference; the weights sum to 0."""

MEASURES = {"mean_knn": "kNN", "mean_linear": "ridge"}
RATIOS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Rule:
    """What a paper advises, as a difference that should be above 0."""

    name: str
    source: str
    words: str
    """The difference in words."""
    weights: Weights


@dataclass(frozen=True)
class Untested:
    """A rule that the grid cannot test."""

    name: str
    source: str
    why: str
    claims: tuple[str, ...] = ()
    """Claims of docs/results/claims.md that bear on it."""


GRID_RULES = (
    Rule(
        "A large ratio is better than a small one",
        "He et al., 2111.06377, figure 5; Zhang et al., 2210.08344",
        "random 0.75 less random 0.25.",
        ((1, "random", 0.75, 1), (-1, "random", 0.25, 1)),
    ),
    Rule(
        "But not too large",
        "Zhang et al., 2210.08344",
        "random 0.75 less random 0.9.",
        ((1, "random", 0.75, 1), (-1, "random", 0.9, 1)),
    ),
    Rule(
        "Three quarters is the ratio",
        "He et al., 2111.06377, figure 5",
        "random 0.75 less random 0.5.",
        ((1, "random", 0.75, 1), (-1, "random", 0.5, 1)),
    ),
    Rule(
        "Random masks are better than blocks at 0.75",
        "He et al., 2111.06377, table 1f",
        "random 0.75 less block 0.75.",
        ((1, "random", 0.75, 1), (-1, "block", 0.75, 1)),
    ),
    Rule(
        "Blocks want a smaller ratio",
        "He et al., 2111.06377, table 1f",
        "block 0.5 less block 0.75.",
        ((1, "block", 0.5, 1), (-1, "block", 0.75, 1)),
    ),
    Rule(
        "Random masks are better than a grid at 0.75",
        "He et al., 2111.06377, table 1f",
        "random 0.75 less grid 0.75.",
        ((1, "random", 0.75, 1), (-1, "grid", 0.75, 1)),
    ),
    Rule(
        "A larger unit wants a smaller ratio",
        "Xie et al., 2111.09886, table 1; Kong et al., 2306.04898",
        "how much better 0.5 is than 0.75 with random masks of unit 2, less the same with unit 1.",
        ((1, "random", 0.5, 2), (-1, "random", 0.75, 2), (-1, "random", 0.5, 1), (1, "random", 0.75, 1)),
    ),
    Rule(
        "A larger unit is better",
        "Xie et al., 2111.09886, table 1",
        "random masks of unit 2 less unit 1, mean over the ratios 0.25, 0.5 and 0.75.",
        tuple((sign / len(RATIOS), "random", ratio, unit) for sign, unit in ((1, 2), (-1, 1)) for ratio in RATIOS),
    ),
)

OTHER_RULES = (
    Untested(
        "A shallow decoder suffices",
        "He et al., 2111.06377, table 1a",
        "The grid has one decoder. What depth does to its attention: [decoder-depth](results/decoder-depth.md).",
        ("decoder-positional",),
    ),
    Untested(
        "A uniformity term helps",
        "Zhang et al., 2210.08344",
        "The grid is MAE alone; [cifar10-small](results/cifar10-small.md) compares U-MAE with three seeds.",
        ("umae-linear", "umae-linear-mean", "umae-rank"),
    ),
    Untested(
        "Normalised targets are better",
        "He et al., 2111.06377, table 1d",
        "The grid predicts pixels. `--set model.normalize_targets=true` compares it.",
    ),
    Untested(
        "A ratio drawn anew for every step is better",
        "Dong et al., R2MAE, 2509.21650",
        "No run of the grid has one. `lcmae compare --ratios 0.75 --schedules uniform:0.5:0.9` compares it.",
    ),
    Untested(
        "Masks that follow the image's content are better",
        "Li et al., SemMAE, 2206.10207; Kakogeorgiou et al., AttMask, 2203.12719",
        "They need a guide, which is a second network: `--masks attention --guide CHECKPOINT`.",
    ),
    Untested(
        "A ratio that is too large joins images of different classes",
        "Zhang et al., 2210.08344",
        "It is about the images, not about networks.",
        ("graph-intra", "graph-inter"),
    ),
)


@dataclass(frozen=True)
class Judged:
    """A rule on one data set and measure, in points of accuracy."""

    rule: Rule
    data: str
    measure: str
    difference: float
    low: float
    high: float
    """95 % for all rules together; NaN where there is no error."""
    alone: tuple[float, float]
    """95 % for this number alone."""
    num_seeds: int

    @property
    def word(self) -> str:
        """holds, contradicted, or not decidable."""
        return "holds" if self.low > 0 else "contradicted" if self.high < 0 else "not decidable"

    def row(self) -> str:
        """Of a Markdown table."""
        alone, together = (
            "no interval" if math.isnan(low) else f"{low:+.1f} to {high:+.1f}"
            for low, high in (self.alone, (self.low, self.high))
        )
        return (
            f"| {self.rule.name} | {self.rule.source} | {self.data} ({self.num_seeds} seeds), {MEASURES[self.measure]} "
            f"| {self.difference:+.1f} | {alone} | {together} | **{self.word}** |"
        )


def judge_all(tables: dict[str, xr.Dataset], rules: Sequence[Rule] = GRID_RULES) -> list[Judged]:
    """Every rule on every data set and measure that has its cells, by rule."""
    asked = [
        (rule, data, measure)
        for rule in rules
        for data in tables
        for measure in MEASURES
        if measure in tables[data] and _rows(rule, grid_of(tables[data], measure)[0]) is not None
    ]
    return [judge(rule, tables[data], data, measure, len(asked)) for rule, data, measure in asked]


def judge(rule: Rule, table: xr.Dataset, data: str, measure: str, num_asked: int) -> Judged:
    """The rule's difference on the measure's scale, laid on the mean of the cells that it takes
    off, as `lcmae compare` shows differences."""
    keys, grid, scale = grid_of(table, measure)
    rows = _rows(rule, keys)
    assert rows is not None
    weights = np.array([weight for weight, *_ in rule.weights])
    means = grid.mean[rows]
    difference = float(weights @ means)
    alone, together = (half_width(grid, rows, weights, number) for number in (1, num_asked))
    base = float(np.average(means[weights < 0], weights=-weights[weights < 0]))
    ends = [difference + reach for reach in (0.0, -together, together, -alone, alone)]
    start = float(scale.back(np.array(base)))
    points, low, high, *both = (100 * (float(scale.back(np.array(base + end))) - start) for end in ends)
    return Judged(rule, data, measure, points, low, high, (both[0], both[1]), int(grid.num_seeds[rows].min()))


def half_width(grid: Grid, rows: Sequence[int], weights: np.ndarray, num_asked: int) -> float:
    """Half of the interval of a difference of several cells: their moderated variances are
    independent once the seeds' effects are out; NaN for one seed."""
    freedom = min(grid.freedom(one, other) for one in rows for other in rows if one != other)
    if freedom <= 0:
        return math.nan
    variance = float((weights**2 * grid.variance[rows] / grid.num_seeds[rows]).sum())
    return float(stdtrit(freedom, 1 - ALPHA / 2 / num_asked)) * variance**0.5


def _rows(rule: Rule, keys: Sequence[Key]) -> list[int] | None:
    """Positions of the rule's cells; None where one is missing."""
    known = {(key[1], key[2], key[3] or 1): row for row, key in enumerate(keys) if key[0] == "mae"}
    found = [known.get((mask, ratio, unit)) for _, mask, ratio, unit in rule.weights]
    return None if None in found else [row for row in found if row is not None]


def from_claims(names: Sequence[str], file: Path) -> str:
    """What docs/results/claims.md says of these claims, read from it."""
    if not names or not file.is_file():
        return ""
    text, found = file.read_text(), []
    seeds = re.search(r"(\d+) seeds;", text)
    for name in names:
        row = re.search(rf"^\| \*\*{re.escape(name)}\*\*: (.*)$", text, re.MULTILINE)
        if row is None:
            continue
        *_, interval, _, decided = [part.strip() for part in row[1].strip().removesuffix("|").split(" | ")]
        found.append(f"*{name}* {interval}: {decided.lstrip('✓✗– ')}")
    return f" Claims{f', {seeds[1]} seeds' if seeds else ''}: {'; '.join(found)}." if found else ""
