"""Attention's flow from the equations, one token at a time; plain Python and numpy."""

import numpy as np


def rollout(maps: list[np.ndarray]) -> np.ndarray:
    """Abnar and Zuidema (2005.00928) for one image: maps [h t t] from the first layer to the
    last."""
    size = maps[0].shape[-1]
    found = np.eye(size)
    for layer in maps:
        mixed = np.array([[(layer[:, q, k].mean() + (q == k)) / 2 for k in range(size)] for q in range(size)])
        found = np.array(
            [[sum(mixed[q, m] * found[m, k] for m in range(size)) for k in range(size)] for q in range(size)]
        )
    return found


def gradient_rollout(maps: list[np.ndarray], slopes: list[np.ndarray]) -> np.ndarray:
    """Chefer et al. (2103.15679), equations 5 and 6, for one image; without the identity."""
    size = maps[0].shape[-1]
    relevance = np.eye(size)
    for layer, slope in zip(maps, slopes, strict=True):
        mixed = np.zeros((size, size))
        for q in range(size):
            for k in range(size):
                mixed[q, k] = np.mean([max(0.0, a * g) for a, g in zip(layer[:, q, k], slope[:, q, k], strict=True)])
        relevance = relevance + mixed @ relevance
    return relevance - np.eye(size)


def is_outlier(norms: list[float]) -> list[bool]:
    """Five robust deviations above the median."""
    middle = sorted(norms)[(len(norms) - 1) // 2]
    deviation = sorted(abs(norm - middle) for norm in norms)[(len(norms) - 1) // 2]
    return [norm > middle + max(5 * 1.4826 * deviation, 0.001 * middle) for norm in norms]
