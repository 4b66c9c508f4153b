"""Two-way errors from every cell's pseudo-value, written out with loops: sums [g k f], a function
of the summed f."""

from collections.abc import Callable

import numpy as np


def two_way(f: Callable[[np.ndarray], float], sums: np.ndarray) -> dict[str, float]:
    """Variances over images and masks, their interaction, and the mean of the pseudo-values."""
    groups, masks = sums.shape[:2]
    whole = f(sums.sum((0, 1)))
    no_group = [f(np.delete(sums, g, 0).sum((0, 1))) for g in range(groups)]
    no_mask = [f(np.delete(sums, k, 1).sum((0, 1))) for k in range(masks)]
    pseudo = [
        groups * masks * whole
        - (groups - 1) * masks * no_group[g]
        - groups * (masks - 1) * no_mask[k]
        + (groups - 1) * (masks - 1) * f(np.delete(np.delete(sums, g, 0), k, 1).sum((0, 1)))
        for g in range(groups)
        for k in range(masks)
    ]
    cells = np.array(pseudo).reshape(groups, masks)
    left = [
        cells[g, k] - cells[g].mean() - cells[:, k].mean() + cells.mean() for g in range(groups) for k in range(masks)
    ]
    degrees = (groups - 1) * (masks - 1)
    return {
        "interaction": sum(one**2 for one in left) / degrees / (groups * masks),
        "images": (groups - 1) / groups * sum((one - np.mean(no_group)) ** 2 for one in no_group),
        "masks": (masks - 1) / masks * sum((one - np.mean(no_mask)) ** 2 for one in no_mask),
        "corrected": float(np.mean(pseudo)),
    }
