"""Which cells may a race drop after a short schedule? Those that are hardly the best of long ones.

A short schedule errs twice: by its seeds, and because it orders cells otherwise than a long one
does, whatever the number of seeds. The rule is lcmae's own (`benchmarks/races.py` simulates it):

1. true means m_c of a rung have the variance s^2, what is left of the means' variance without that
   of their seeds e_c^2; B_c = s^2 / (s^2 + e_c^2) is how far a mean can be believed;
2. the last rung's true means correlate with this rung's by rho. In this rung's units, given what it
   measured, they are normal about rho B_c (mean_c - mean) with the variance s^2 (1 - rho^2 B_c);
3. P(c is the best of the last rung) follows by quadrature; the least likely cells are dropped, as
   long as all that are dropped have less than the rung's share of `LOST` together.

After the first rung rho is assumed to be `FIRST`. After a later one it is the agreement that was
measured between this rung and the one before, seeds' noise taken out, at most `MOST`. What the rung
before dropped is then judged anew, with the square of that agreement where it is below `FIRST`: two
steps lie between that rung and the last one. Cells that would not have been dropped come back for
the last rung (`doubted`), so where short schedules order cells by chance a race drops nothing
and saves nothing.
"""

import numpy as np
from scipy.special import log_ndtr

LOST = 0.02
"""Chance of dropping the best, over all early rungs."""

FIRST, MOST = 0.7, 0.9
"""Correlations with the last rung's true means: assumed after the first rung; most that is believed
of the estimate after later ones."""

FEWEST = 4
"""With fewer cells their spread is not known, and all go on."""

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(32)


def chances(mean: np.ndarray, variance: np.ndarray, correlation: np.ndarray | float) -> np.ndarray:
    """[... cells], P(best of the last rung) of each cell.

    From the means of this rung, the squared standard errors of each (both [... cells], NaN for
    cells that are not in the race, larger means are better), and the correlation [...] of true
    means with the last rung's.
    """
    rho = np.asarray(correlation, dtype=float)[..., None]
    is_in = np.isfinite(mean)
    spread = _spread(mean, variance)
    belief = np.where(is_in, spread / (spread + variance), 0)
    centre = rho * belief * np.where(is_in, mean - _mean(mean), 0)
    deviation = np.sqrt(spread * (1 - rho**2 * belief))
    found = np.zeros(mean.shape)
    for cell in range(mean.shape[-1]):
        at = centre[..., cell, None] + deviation[..., cell, None] * NODES
        below = log_ndtr((at[..., None, :] - centre[..., None]) / deviation[..., None])
        below = np.where(is_in[..., None], below, 0)
        below[..., cell, :] = 0
        found[..., cell] = np.exp(below.sum(axis=-2)) @ WEIGHTS / WEIGHTS.sum()
    return np.where(is_in, found, 0)


def agreement(
    first: np.ndarray, variance_of_first: np.ndarray, second: np.ndarray, variance_of_second: np.ndarray
) -> np.ndarray:
    """[...], correlation of the true means of two rungs over all cells of the first, without the
    variance of seeds. All arguments [... cells]; the second rung has NaN for cells that the first
    one dropped.

    A choice by the first rung's means narrows their spread, and with it the plain correlation of
    what is left. It bends neither the regression of the second rung on the first one's means nor
    the variance about it: both are taken from the cells that are left, the spread from all
    (Pearson's correction for selection, 1903).
    """
    is_left = np.isfinite(first) & np.isfinite(second)
    one, other = (np.where(is_left, values, np.nan) for values in (first, second))
    x, y = one - _mean(one), other - _mean(other)
    of_x, of_both, of_y = (np.nansum(each, axis=-1, keepdims=True) for each in (x**2, x * y, y**2))
    slope = of_both / np.maximum(of_x, 1e-300)
    about = (of_y - slope * of_both) / np.maximum(_freedom(one) - 1, 1)
    about = np.maximum(about - _mean(np.where(is_left, variance_of_second, np.nan)), 0)
    measured = np.nansum((first - _mean(first)) ** 2, axis=-1, keepdims=True) / _freedom(first)
    explained = slope**2 * measured
    together = slope * measured / np.sqrt(_spread(first, variance_of_first) * np.maximum(explained + about, 1e-300))
    return np.clip(together, -1, 1)[..., 0]


def doubted(agreement: np.ndarray | float) -> np.ndarray:
    """[...], correlation of the rung before with the last one, by which its drops are judged anew,
    from its agreement [...] with this rung."""
    return np.asarray(np.minimum(np.maximum(agreement, 0) ** 2, FIRST))


def believed(agreement: np.ndarray | float) -> np.ndarray:
    """[...], correlation of this rung with the last one, from its agreement [...] with the rung
    before."""
    return np.asarray(np.clip(agreement, 0, MOST))


def going_on(chance: np.ndarray, is_in: np.ndarray, lost: float) -> np.ndarray:
    """Bool [... cells]: cells of the race but the least likely, which together have a chance of
    less than `lost` to be the best. At least the two likeliest go on, and all of fewer than
    four."""
    known = np.where(is_in, chance, np.inf)
    order = np.argsort(known, axis=-1)
    left = is_in.sum(axis=-1, keepdims=True)
    is_unlikely = np.cumsum(np.take_along_axis(known, order, axis=-1), axis=-1) < lost
    is_unlikely &= (np.arange(is_in.shape[-1]) < left - 2) & (left >= FEWEST)
    dropped = np.zeros(is_in.shape, dtype=bool)
    np.put_along_axis(dropped, order, is_unlikely, axis=-1)
    return is_in & ~dropped


def _spread(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """[... 1], variance of true means: that of the means less that of their seeds, never 0."""
    total = np.nansum((mean - _mean(mean)) ** 2, axis=-1, keepdims=True) / _freedom(mean)
    of_seeds = _mean(np.where(np.isfinite(mean), variance, np.nan))
    return np.maximum(total - of_seeds, 1e-9 * total + 1e-12)


def _mean(values: np.ndarray) -> np.ndarray:
    """[... 1], over what there is."""
    return np.nansum(values, axis=-1, keepdims=True) / np.maximum(np.isfinite(values).sum(axis=-1, keepdims=True), 1)


def _freedom(values: np.ndarray) -> np.ndarray:
    """[... 1]."""
    return np.maximum(np.isfinite(values).sum(axis=-1, keepdims=True) - 1, 1)
