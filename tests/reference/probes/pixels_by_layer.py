"""Patches around a patch and what is explained of them, by loops; numpy only."""

import numpy as np


def around(patches: np.ndarray, grid: tuple[int, int], radius: int) -> np.ndarray:
    """[s i o q]: patches [s n q] at each offset of each patch that has them all."""
    found = []
    for row in range(radius, grid[0] - radius):
        for column in range(radius, grid[1] - radius):
            near = [
                patches[:, (row + down) * grid[1] + column + across]
                for down in range(-radius, radius + 1)
                for across in range(-radius, radius + 1)
            ]
            found.append(np.stack(near, axis=1))
    return np.stack(found, axis=1)


def explained(fit_x: np.ndarray, fit_y: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """R2 about the position means of least squares [s i d] -> [s i q], fitted on other images."""
    token_mean, target_mean = fit_x.mean(0), fit_y.mean(0)
    a = (fit_x - token_mean).reshape(-1, fit_x.shape[-1])
    b = (fit_y - target_mean).reshape(-1, fit_y.shape[-1])
    weights = np.linalg.lstsq(a, b, rcond=None)[0]
    error = (y - target_mean) - (x - token_mean) @ weights
    return float(1 - (error**2).sum() / ((y - target_mean) ** 2).sum())
