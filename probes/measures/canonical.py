"""Canonical correlations of two sets of vectors of the same images, judged on images that they were
not fitted to.

Hotelling (1936), with a ridge. For features f(x1) of what is visible and f(x2) of what is hidden
their squares estimate eigenvalues of the mask-induced augmentation graph
(`lcmae.probes.mask_graphs.numbers`) from below: the graph's own would need every function of x1 and
of x2, and these are the linear functions of f alone.
"""

from dataclasses import dataclass

import numpy as np

from lcmae.shapes import Bool, Float

CONSTANT = 1e-10
"""Variance below this share of the mean square is rounding: such vectors are constant and correlate
with nothing."""


@dataclass(frozen=True)
class HeldOut:
    """Canonical pairs as they were fitted to some images, on the others."""

    on: Bool[np.ndarray, " n"]
    """Which images are not of the fit."""

    first: Float[np.ndarray, "m k"]
    second: Float[np.ndarray, "m k"]

    def correlations(self, judged: Bool[np.ndarray, " n"] | None = None) -> Float[np.ndarray, " k"]:
        """Of each pair, in the order of the fit; on these images, or on those of them that are
        `judged`."""
        on = slice(None) if judged is None else judged[self.on]
        scores, other = self.first[on], self.second[on]
        if not len(scores):
            return np.zeros(scores.shape[1])
        scores, other = scores - scores.mean(0), other - other.mean(0)
        scale = np.sqrt((scores**2).sum(0) * (other**2).sum(0))
        return np.divide((scores * other).sum(0), scale, out=np.zeros(len(scale)), where=scale > 0)


def held_out(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n e"], fit: Bool[np.ndarray, " n"], ridge: float
) -> HeldOut:
    """Canonical pairs fitted to the images that are `fit`, k = min(d, e) of them; zeros where a
    side is constant. `ridge` is added to the variances, in units of the mean variance of a
    coordinate.
    """
    pairs = min(first.shape[1], second.shape[1])
    halves = [_whitening(part[fit], ridge) for part in (first, second)] if fit.any() else [None]
    if any(half is None for half in halves):
        return HeldOut(~fit, *np.zeros((2, int((~fit).sum()), pairs)))
    (centre, white), (other_centre, other_white) = (half for half in halves if half is not None)
    scores, other = (first - centre) @ white, (second - other_centre) @ other_white
    left, _, right = np.linalg.svd(scores[fit].T @ other[fit], full_matrices=False)
    return HeldOut(~fit, scores[~fit] @ left, other[~fit] @ right.T)


def both_halves(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n e"], half: Bool[np.ndarray, " n"], ridge: float
) -> tuple[HeldOut, HeldOut]:
    """Pairs of each half, on the other."""
    return held_out(first, second, half, ridge), held_out(first, second, ~half, ridge)


def canonical_spectrum(
    halves: tuple[HeldOut, HeldOut], num_eigenvalues: int, judged: Bool[np.ndarray, " n"] | None = None
) -> tuple[Float[np.ndarray, " k"], float]:
    """The largest eigenvalues, 1 for constants first, and the sum of squares of all.

    Correlations are fitted on one half and judged on the other, both ways, sorted by what was
    judged (a pair that fits best need not hold best) and averaged. Negative ones count as 0, so
    noise leaves eigenvalues of about 1 / images. `judged` leaves images out of the judgement, and
    never of the fit.
    """
    both = [np.sort(one.correlations(judged))[::-1] for one in halves]
    values = np.concatenate([[1.0], np.maximum(np.mean(both, axis=0), 0.0) ** 2])
    shown = np.zeros(num_eigenvalues)
    shown[: len(values)] = values[:num_eigenvalues]
    return shown, float((values**2).sum())


def _whitening(
    vectors: Float[np.ndarray, "n d"], ridge: float
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]] | None:
    """Mean, and the inverse root of covariance + ridge; None for constant vectors."""
    centre = vectors.mean(0)
    covariance = (vectors - centre).T @ (vectors - centre) / len(vectors)
    mean_variance = np.trace(covariance) / len(centre)
    if not mean_variance > CONSTANT * (vectors**2).mean():
        return None
    variance, axes = np.linalg.eigh(covariance)
    # a direction without variance is left out: all it has are rounding errors
    usable = variance > CONSTANT * mean_variance
    scale = np.zeros_like(variance)
    scale[usable] = (variance[usable] + ridge * mean_variance) ** -0.5
    return centre, axes * scale
