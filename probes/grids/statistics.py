"""Which cells of a grid differ, and which may be the best? Runs of all cells share their seeds.

The method is lcmae's own, derived and simulated (docs/compare.md): with values `y_cs` of cell c and
seed s, on a scale on which they add up (`scales`),

1. seeds are blocks: `y_cs = mu_c + seed_s + e_cs`, `Var e = sigma_c^2`. Runs of one seed share
   images, their order, initial weights and masks. Cells may lack seeds: the fit is least squares.
2. *guarded moderation* of the cells' variances: the prior of Smyth (2004, doi
   10.2202/1544-6115.1027, section 6.2), with one standard error added to the spread of the log
   variances, and shrinkage upwards only. Textbook moderation is too narrow on small grids whose
   cells differ in noise (family-wise errors of 25 % in simulation).
3. differences to a baseline by Student's t with Holm's correction; intervals for each difference
   alone, and for all together (Bonferroni).
4. a cell *may be the best* unless another one beats it: one-sided, Bonferroni over the others;
   where there is a baseline, differences to it are judged by 3. alone.

With fewer than four cells the seed's effect cannot be taken out of each cell's own variance, and
differences are paired over the seeds that two cells share. No torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import digamma, polygamma, stdtr, stdtrit

ALPHA = 0.05
"""Error rate of intervals (1 - alpha), of Holm's family, and of losing the best cell."""

MIN_CELLS = 4
"""Cells from which on variances are moderated."""

MOST_SEEDS = 40
"""Further seeds beyond which this design is not the way to decide a difference."""


@dataclass(frozen=True)
class Contrast:
    """The difference of a cell to the baseline, on the scale of the analysis."""

    cell: int
    difference: float
    half_width: float
    """Half of the 95 % interval of this difference alone; NaN where seeds do not suffice."""
    half_width_together: float
    """Half of its interval where the intervals of all cells hold together with 95 %."""
    p_value: float
    """Two-sided, by Holm's correction over all differences to the baseline."""

    @property
    def is_decided(self) -> bool:
        """Whether the difference's sign is decided, at 5 % over all differences."""
        return self.p_value < ALPHA


@dataclass(frozen=True)
class Grid:
    """Values [cells seeds] of a grid, NaN for runs that are missing, and what the whole grid says.

    `step` is the rounding step of the values: variances are at least step^2 / 12.
    """

    values: np.ndarray
    step: float = 0.0

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or not np.isfinite(self.values).any(1).all():
            raise ValueError("expected values [cells seeds] with a finite value in each cell")

    @property
    def num_cells(self) -> int:
        return self.values.shape[0]

    @cached_property
    def known(self) -> np.ndarray:
        """Which runs there are, bool [cells seeds]."""
        return np.isfinite(self.values)

    @cached_property
    def num_seeds(self) -> np.ndarray:
        """Runs of each cell [cells]."""
        return self.known.sum(1)

    @cached_property
    def _fit(self) -> tuple[np.ndarray, np.ndarray]:
        """The linear map [cells runs] from the runs to the cells' means, and the residual maker's
        diagonal by run; least squares with seeds as blocks, their effects summing to 0."""
        cell, seed = np.nonzero(self.known)
        seeds = np.unique(seed)
        rows = len(cell)
        design = np.zeros((rows, self.num_cells + len(seeds)))
        design[np.arange(rows), cell] = 1
        design[np.arange(rows), self.num_cells + np.searchsorted(seeds, seed)] = 1
        # effects of seeds sum to 0: a row of its own that no run disturbs
        design = np.vstack([design, np.r_[np.zeros(self.num_cells), np.ones(len(seeds))]])
        solve = np.linalg.pinv(design)
        hat = (design @ solve)[:rows, :rows]
        return solve[: self.num_cells, :rows], 1 - np.diag(hat)

    @cached_property
    def mean(self) -> np.ndarray:
        """Means of the cells with the seeds' effects taken out [cells]; plain means of a complete
        grid."""
        return self._fit[0] @ self.values[self.known]

    @cached_property
    def own_variance(self) -> np.ndarray:
        """Variance of each cell's runs [cells], from `MIN_CELLS` cells on without the seeds'
        effects; NaN for one run."""
        if self.num_cells < MIN_CELLS:
            own = [
                float(row[known].var(ddof=1)) if known.sum() > 1 else math.nan
                for row, known in zip(self.values, self.known, strict=True)
            ]
            return np.maximum(own, max(self.step**2 / 12, np.finfo(float).tiny))
        cell, seed = np.nonzero(self.known)
        runs = self.values[self.known]
        effect = np.zeros(self.values.shape[1])
        for column in np.unique(seed):
            mine = seed == column
            effect[column] = (runs[mine] - self.mean[cell[mine]]).mean()
        rest = runs - self.mean[cell] - effect[seed]
        freedom = np.zeros(self.num_cells)
        total = np.zeros(self.num_cells)
        np.add.at(total, cell, rest**2)
        np.add.at(freedom, cell, self._fit[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            own = np.where(self.num_seeds > 1, total / np.maximum(freedom, 1e-12), np.nan)
        return np.maximum(own, max(self.step**2 / 12, np.finfo(float).tiny))

    @cached_property
    def prior(self) -> tuple[float, float]:
        """Degrees of freedom and variance of the guarded prior; (0, NaN) where there is none."""
        known = np.isfinite(self.own_variance)
        if self.num_cells < MIN_CELLS or known.sum() < MIN_CELLS:
            return 0.0, math.nan
        return guarded_prior(self.own_variance[known], (self.num_seeds - 1)[known])

    @cached_property
    def variance(self) -> np.ndarray:
        """Moderated variance of a run of each cell [cells]: shrunk towards the prior, upwards only;
        a cell of one run has the prior's."""
        freedom, centre = self.prior
        if freedom == 0:
            return self.own_variance
        own = np.where(np.isfinite(self.own_variance), self.own_variance, centre)
        d = np.maximum(self.num_seeds - 1, 0)
        return np.maximum(own, (freedom * centre + d * own) / (freedom + d))

    def freedom(self, first: int, second: int, *, more: int = 0) -> float:
        """Degrees of freedom of the difference of two cells, with so many more seeds for all."""
        d = int(min(self.num_seeds[first], self.num_seeds[second])) - 1 + more
        if self.num_cells < MIN_CELLS:
            return float(d)
        together = int(np.maximum(self.num_seeds - 1 + more, 0).sum()) * (1 - 1 / self.num_cells)
        return min(self.prior[0] + d, together)

    def standard_error(self, first: int, second: int) -> float:
        """Of the difference of two cells' means; NaN where too few seeds are shared."""
        if first == second:
            return 0.0
        if self.num_cells < MIN_CELLS or self.prior[0] == 0:
            both = self.known[first] & self.known[second]
            if both.sum() < 2:
                return math.nan
            each = self.values[first][both] - self.values[second][both]
            return float(max(each.var(ddof=1), self.step**2 / 6) ** 0.5 / both.sum() ** 0.5)
        cell, _ = np.nonzero(self.known)
        weights = self._fit[0][first] - self._fit[0][second]
        return float((weights**2 * self.variance[cell]).sum() ** 0.5)

    def difference(self, first: int, second: int) -> float:
        """First minus second."""
        if self.num_cells < MIN_CELLS or self.prior[0] == 0:
            both = self.known[first] & self.known[second]
            if both.any():
                return float((self.values[first][both] - self.values[second][both]).mean())
        return float(self.mean[first] - self.mean[second])

    def statistic(self, first: int, second: int) -> tuple[float, float]:
        """Student's t of the difference, and its degrees of freedom; NaN where it has none."""
        error, freedom = self.standard_error(first, second), self.freedom(first, second)
        if not error > 0 or freedom <= 0:
            return math.nan, freedom
        return self.difference(first, second) / error, freedom

    def to_baseline(self, baseline: int, others: Sequence[int] | None = None) -> list[Contrast]:
        """Differences of the cells to the baseline, in their order."""
        cells = [cell for cell in (others or range(self.num_cells)) if cell != baseline]
        raw = {}
        for cell in cells:
            t, freedom = self.statistic(cell, baseline)
            raw[cell] = _tail(abs(t), freedom) * 2 if math.isfinite(t) else 1.0
        holm, worst = {}, 0.0
        for rank, cell in enumerate(sorted(cells, key=raw.__getitem__)):
            worst = max(worst, min(1.0, (len(cells) - rank) * raw[cell]))
            holm[cell] = worst
        found = []
        for cell in cells:
            error, freedom = self.standard_error(cell, baseline), self.freedom(cell, baseline)
            alone, together = (
                (_quantile(1 - ALPHA / 2, freedom), _quantile(1 - ALPHA / 2 / len(cells), freedom))
                if freedom > 0
                else (math.nan, math.nan)
            )
            found.append(Contrast(cell, self.difference(cell, baseline), alone * error, together * error, holm[cell]))
        return found

    def may_be_best(self, sign: int = 1, alpha: float = ALPHA, *, baseline: int | None = None) -> list[int]:
        """Cells that the runs do not rule out as the best (`sign` 1: larger is better, -1:
        smaller); never empty. The truly best cell is missing with a chance of at most `alpha`.

        With a `baseline`, differences to it are judged once, by `to_baseline`: it is ruled out
        where another cell is decidedly better, and so is what is decidedly worse. Two verdicts on
        one difference, at two levels, would contradict each other.
        """
        out: set[int] = set()
        if baseline is not None:
            gains = {found.cell: sign * found.difference for found in self.to_baseline(baseline) if found.is_decided}
            out |= {cell for cell, gain in gains.items() if gain < 0}
            out |= {baseline} if any(gain > 0 for gain in gains.values()) else set()
        return [
            cell
            for cell in range(self.num_cells)
            if cell not in out and (cell == baseline or self.chance_of_being_best(cell, sign, beside=baseline) >= alpha)
        ]

    def chance_of_being_best(self, cell: int, sign: int = 1, *, beside: int | None = None) -> float:
        """P value of "this cell is the best": Bonferroni over the cells that would beat it, of
        which `beside` is judged elsewhere."""
        least = 1.0
        for other in range(self.num_cells):
            if other in (cell, beside):
                continue
            t, freedom = self.statistic(other, cell)
            if math.isfinite(t):
                least = min(least, (self.num_cells - 1) * _tail(sign * t, freedom))
        return least

    def seeds_needed(self, cell: int, other: int, power: float = 0.8) -> int | None:
        """Further seeds of both cells that decide their difference with this power, taken alone;
        None beyond `MOST_SEEDS`. The difference is shrunk first: the plain one is the winner's."""
        error = self.standard_error(cell, other)
        difference = abs(self.difference(cell, other))
        if not (error > 0 and difference > error):
            return None
        difference *= 1 - (error / difference) ** 2
        seeds = int(min(self.num_seeds[cell], self.num_seeds[other]))
        spread = error * seeds**0.5
        for more in range(MOST_SEEDS + 1):
            freedom = self.freedom(cell, other, more=more)
            if freedom <= 0:
                continue
            reach = _quantile(1 - ALPHA / 2, freedom) + _quantile(power, freedom)
            if difference >= reach * spread / (seeds + more) ** 0.5:
                return more
        return None


def guarded_prior(variances: np.ndarray, freedom: np.ndarray) -> tuple[float, float]:
    """Degrees of freedom and variance of the prior of variances [cells] of `freedom` degrees each.

    Smyth (2004, section 6.2): e = log s^2 - psi(d/2) + log(d/2) has the variance psi'(d/2) +
    psi'(d0/2). One standard error of that variance under equal cells is added to what is left for
    d0, so few cells or few seeds shrink little.
    """
    half = np.asarray(freedom, dtype=float) / 2
    e = np.log(variances) - digamma(half) + np.log(half)
    spread = max(float(e.var(ddof=1) - polygamma(1, half).mean()), 0.0)
    noise = float((polygamma(3, half) + 2 * polygamma(1, half) ** 2).mean()) / len(variances)
    prior = 2 * trigamma_inverse(spread + noise**0.5)
    centre = math.exp(float(e.mean()) + float(digamma(prior / 2)) - math.log(prior / 2))
    return prior, centre


def trigamma_inverse(x: float) -> float:
    """y with psi'(y) = x > 0, by Newton's method on 1 / psi' (Smyth 2004, appendix)."""
    y = 0.5 + 1 / x
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / x) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-8:
            break
    return y


def _quantile(probability: float, freedom: float) -> float:
    """Student's t."""
    return float(stdtrit(freedom, probability))


def _tail(t: float, freedom: float) -> float:
    """P(T > t)."""
    return float(stdtr(freedom, -t))
