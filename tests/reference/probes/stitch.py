"""Stitching (Lenc and Vedaldi, 1411.5908) from its equations, with the map as a least-squares
problem that is solved row by row; numpy only."""

from collections.abc import Callable, Sequence

import numpy as np

RIDGES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)

Map = Callable[[np.ndarray], np.ndarray]


def ridge_map(x: np.ndarray, y: np.ndarray, ridge: float) -> Map:
    """argmin over (W, b) of |x W + b - y|^2 / n + ridge v |W|^2, v the mean variance of x: the
    ridge as further rows of the least-squares problem."""
    centre, level = x.mean(0), x.var(0).mean()
    rows = np.concatenate([x - centre, np.sqrt(ridge * level * len(x)) * np.eye(x.shape[1])])
    wanted = np.concatenate([y - y.mean(0), np.zeros((x.shape[1], y.shape[1]))])
    weight = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return lambda new: (new - centre) @ weight + y.mean(0)


def chosen_map(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> Map:
    """From rows of each image [r d] to [r e]: the ridge that errs least on every fifth image, then
    fitted on all."""
    held = [image for image in range(len(x)) if image % 5 == 4]
    rest = [image for image in range(len(x)) if image % 5 != 4]

    def rows(of: Sequence[np.ndarray], images: Sequence[int]) -> np.ndarray:
        return np.concatenate([of[image] for image in images])

    def error(ridge: float) -> float:
        found = ridge_map(rows(x, rest), rows(y, rest), ridge)
        return float(np.square(found(rows(x, held)) - rows(y, held)).sum())

    everything = range(len(x))
    return ridge_map(rows(x, everything), rows(y, everything), min(RIDGES, key=error))


def increase(handed: Sequence[float], intact: Sequence[float]) -> float:
    """By how much the loss rises, as a share: sums over images."""
    return (sum(handed) - sum(intact)) / sum(intact)
